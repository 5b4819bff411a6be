// The layer against PyTorch: golden/generate.py wrote what torch.nn.BatchNorm1d, 2d and 3d do in float64.

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "catch.hpp"
#include "duel.hpp"

using batchnorm::BatchNormOptions;

namespace {

struct Golden {
  // Reads the next line, which must begin with `key`, and returns the rest of it.
  std::string rest(const std::string& key) {
    std::string line;
    if (!std::getline(file, line) || line.compare(0, key.size(), key) != 0) {
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

  std::ifstream file;
};

template <typename T>
std::vector<T> as(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// Largest difference relative to the largest value.
template <typename T>
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

template <typename T>
struct Player {
  // PyTorch computed in double and 13 digits were written; float adds its own rounding, which the cancellation in dx
  // and the steps of a sequence enlarge a few times.
  static constexpr double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-12;

  // Plays all cases of a file and returns how many steps there were.
  static int play(const std::string& path, bool reversed) {
    Golden golden{std::ifstream(path)};
    REQUIRE(golden.file.is_open());
    golden.rest("#");
    int steps = 0;
    for (std::string line; std::getline(golden.file, line);) {
      INFO(path << ", " << line << (reversed ? ", as ColMajor" : ""));
      std::istringstream words(golden.rest("options"));
      std::string word, momentum;
      int axis = 0, affine = 0, track = 0;
      std::int64_t channels = 0;
      double epsilon = 0;
      words >> word >> axis >> word >> channels >> word >> epsilon >> word >> momentum >> word >> affine >> word >>
          track;
      REQUIRE(words);
      const auto extents = golden.numbers("shape");
      oracle::Geometry geometry{
          {extents.begin(), extents.end()}, !reversed, axis < 0 ? axis + static_cast<int>(extents.size()) : axis};
      if (reversed) {  // the same memory, told the other way round
        std::reverse(geometry.extents.begin(), geometry.extents.end());
        geometry.axis = geometry.rank() - 1 - geometry.axis;
      }
      auto options = BatchNormOptions(channels).epsilon(epsilon).affine(affine != 0).track_running_stats(track != 0);
      options.channel_axis(reversed ? geometry.axis : axis);
      options.momentum(momentum == "none" ? std::nullopt : std::optional<double>(std::stod(momentum)));
      const auto layer = AnyLayer<T>::make(geometry, options);
      auto state = layer->state();
      state.weight = as<T>(golden.numbers("weight"));
      state.bias = as<T>(golden.numbers("bias"));
      state.running_mean = as<T>(golden.numbers("running_mean"));
      state.running_var = as<T>(golden.numbers("running_var"));
      layer->set_parameters(state);
      for (; std::getline(golden.file, line) && line != "end"; ++steps) {
        layer->train(line == "step train");
        const auto x = as<T>(golden.numbers("x", 1.0 / 32)), dy = as<T>(golden.numbers("dy", 1.0 / 32));
        std::vector<T> y(x.size()), dx(x.size());
        layer->forward(geometry.extents, x.data(), y.data());
        layer->backward(geometry.extents, x.data(), dy.data(), dx.data());
        state = layer->state();
        INFO(line);
        CHECK(distance(y, golden.numbers("y")) < tolerance);
        CHECK(distance(dx, golden.numbers("dx")) < tolerance);
        CHECK(distance(state.weight_grad, golden.numbers("weight_grad")) < tolerance);
        CHECK(distance(state.bias_grad, golden.numbers("bias_grad")) < tolerance);
        CHECK(distance(state.running_mean, golden.numbers("running_mean")) < tolerance);
        CHECK(distance(state.running_var, golden.numbers("running_var")) < tolerance);
        CHECK(static_cast<double>(state.batches) == golden.numbers("batches").at(0));
      }
    }
    return steps;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("outputs, gradients and running statistics are PyTorch's", "", float, double) {
  for (const std::string name : {"rank2_contiguous", "rank3_contiguous", "rank3_channels_last", "rank4_contiguous",
                                 "rank4_channels_last", "rank5_contiguous", "rank5_channels_last"}) {
    for (const bool reversed : {false, true}) {
      CHECK(Player<TestType>::play(BATCHNORM_GOLDEN_DIR "/" + name + ".txt", reversed) == 18);
    }
  }
}
