// Prints how far results are from the exact ones, as a Markdown table.
//
//   accuracy_table                  of this library, the worst of all regimes
//   accuracy_table --dump DIR       writes the data sets to DIR, for another library to read
//   accuracy_table --compare DIR    of this library and of what the other has written to DIR
//
// pytorch_accuracy.py does the last two for PyTorch and says how the files look.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>

#include "measure.hpp"

namespace {

constexpr Scalar types[] = {Scalar::float32, Scalar::float64};

// How data sets are handed to others: N,C,H,W.
Regime dumped_regime(const DataSet& set) {
  const std::int64_t n = set.values_per_channel(), square = n == 2 ? 1 : n == 1568 ? 14 * 14 : 100 * 100;
  return {"N,C,H,W", n / square, static_cast<std::int64_t>(set.channels.size()), square};
}

std::string file_of(const std::string& directory, Scalar type, std::size_t index, const char* kind) {
  return directory + "/" + name_of(type) + std::to_string(index) + "." + kind;
}

template <class T>
void write(std::ostream& out, const std::vector<double>& values) {
  for (const double value : values) {
    const auto narrow = static_cast<T>(value);
    out.write(reinterpret_cast<const char*>(&narrow), sizeof(T));
  }
}

template <class T>
std::vector<double> read(std::istream& in, std::size_t count) {
  std::vector<double> values(count);
  for (double& value : values) {
    T narrow;
    if (!in.read(reinterpret_cast<char*>(&narrow), sizeof(T))) throw std::runtime_error("a result is too short");
    value = static_cast<double>(narrow);
  }
  return values;
}

void dump(const std::string& directory) {
  std::ofstream list(directory + "/list.txt");
  list.precision(17);
  for (const Scalar type : types) {
    const auto sets = data_sets(type);
    for (std::size_t i = 0; i < sets.size(); ++i) {
      const Regime regime = dumped_regime(sets[i]);
      const Problem p = tile(regime, sets[i].channels);
      const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(regime.inner))));
      list << name_of(type) << ' ' << i << ' ' << regime.outer << ' ' << regime.channels << ' ' << side << ' ' << side
           << ' ' << p.epsilon << ' ' << p.momentum << ' ' << (p.training ? "training" : "inference") << '\n';
      std::ofstream file(file_of(directory, type, i, "data"), std::ios::binary);
      for (const auto* values : {&p.x, &p.dy, &p.weight, &p.bias, &p.running_mean, &p.running_var}) {
        type == Scalar::float32 ? write<float>(file, *values) : write<double>(file, *values);
      }
      if (!file) throw std::runtime_error("cannot write to " + directory);
    }
  }
}

// The larger error of the other library's memory formats.
Errors others(const std::string& directory, Scalar type, std::size_t index, const Solved& solved) {
  const Regime regime = dumped_regime(solved.set);
  Errors result;
  for (const char* format : {"contiguous", "channels_last"}) {
    std::ifstream file(file_of(directory, type, index, format), std::ios::binary);
    if (!file) throw std::runtime_error("no results in " + directory);
    const auto next = [&](std::size_t count) {
      return type == Scalar::float32 ? read<float>(file, count) : read<double>(file, count);
    };
    const auto channels = static_cast<std::size_t>(regime.channels);
    Outcome outcome;
    outcome.y = next(regime.size());
    outcome.dx = next(regime.size());
    for (auto* vector : {&outcome.running_mean, &outcome.running_var, &outcome.weight_grad, &outcome.bias_grad}) {
      *vector = next(channels);
    }
    result.take_larger(errors(type, solved, regime, outcome));
  }
  return result;
}

std::string text(double error) {
  if (!(error < 1e30)) return "inf";
  if (error == 0) return "0";
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%.0e", error);
  return buffer;
}

std::string cells(const Errors& e, const std::function<std::string(double Errors::*)>& other) {
  const auto cell = [&](double value, double Errors::*member) { return " " + text(value) + other(member) + " |"; };
  const bool mean_is_worse = e.running_mean > e.running_var;
  return cell(e.y, &Errors::y) + cell(mean_is_worse ? e.running_mean : e.running_var, &Errors::running_var) +
         cell(e.dx, &Errors::dx) + cell(e.weight_grad, &Errors::weight_grad);
}

void print_table(Scalar type, const std::string& directory) {
  const bool compare = !directory.empty();
  if (compare) {
    std::cout << "| " << name_of(type)
              << " | y | PyTorch | running statistics | PyTorch | dx | PyTorch | weight_grad | PyTorch |\n"
                 "|---|---|---|---|---|---|---|---|---|\n";
  } else {
    std::cout << "| " << name_of(type) << " | y | running statistics | dx | weight_grad |\n|---|---|---|---|---|\n";
  }
  const auto sets = data_sets(type);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const Solved solved(sets[i]);
    Errors ours, theirs;
    for (const auto& regime : regimes(sets[i].values_per_channel())) {
      ours.take_larger(errors(type, solved, regime, run(type, tile(regime, sets[i].channels))));
    }
    if (compare) {
      theirs = others(directory, type, i, solved);
      theirs.running_var = std::max(theirs.running_mean, theirs.running_var);
    }
    std::cout << "| " << sets[i].name << " |"
              << cells(ours, [&](double Errors::*member) { return compare ? " | " + text(theirs.*member) : ""; })
              << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string option = argc > 1 ? argv[1] : "", directory = argc > 2 ? argv[2] : "";
  if (argc == 3 && option == "--dump") {
    dump(directory);
  } else if (argc == 1 || (argc == 3 && option == "--compare")) {
    for (const Scalar type : types) {
      print_table(type, directory);
      std::cout << '\n';
    }
    std::cout << "inf: not a finite number, or not 0 where 0 is exact.\n";
  } else {
    std::cerr << "usage: accuracy_table [--dump DIR | --compare DIR]\n";
    return 2;
  }
} catch (const std::exception& error) {
  std::cerr << "accuracy_table: " << error.what() << '\n';
  return 1;
}
