// What golden/generate.py wrote, read line by line.

#ifndef BATCHNORM_TESTS_GOLDEN_HPP
#define BATCHNORM_TESTS_GOLDEN_HPP

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace golden {

class File {
 public:
  explicit File(const std::string& path) : file_(path) {
    if (!file_) throw std::runtime_error("cannot read " + path);
    rest("#");
  }

  /// The next line, unless the file is at its end.
  bool next(std::string& line) { return static_cast<bool>(std::getline(file_, line)); }
  /// Reads the next line, which must begin with `key`, and returns the rest of it.
  std::string rest(const std::string& key) {
    std::string line;
    if (!next(line) || line.compare(0, key.size(), key) != 0) {
      throw std::runtime_error("expected a line of " + key + ", got: " + line);
    }
    return line.substr(std::min(line.size(), key.size() + 1));
  }
  std::vector<double> numbers(const std::string& key, double unit = 1) {
    std::istringstream text(rest(key));
    std::vector<double> values;
    for (double value; text >> value;) values.push_back(value * unit);  // none for "-"
    return values;
  }

 private:
  std::ifstream file_;
};

template <class T>
std::vector<T> as(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

/// Largest difference relative to the largest value.
template <class T>
double distance(const std::vector<T>& got, const std::vector<double>& expected) {
  if (got.size() != expected.size()) return INFINITY;
  double worst = 0, largest = 1e-3;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

}  // namespace golden

#endif  // BATCHNORM_TESTS_GOLDEN_HPP
