// The layer against PyTorch: golden/generate.py wrote what torch.nn.BatchNorm1d, 2d and 3d do in float64.

#include "golden.hpp"
#include "catch.hpp"
#include "duel.hpp"

using batchnorm::BatchNormOptions;

namespace {

template <typename T>
struct Player {
  // PyTorch computed in double and 13 digits were written; float adds its own rounding, which the cancellation in dx
  // and the steps of a sequence enlarge a few times.
  static constexpr double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-12;

  // Plays all cases of a file and returns how many steps there were.
  static int play(const std::string& path, bool reversed) {
    golden::File file(path);
    int steps = 0;
    for (std::string line; file.next(line);) {
      INFO(path << ", " << line << (reversed ? ", as ColMajor" : ""));
      std::istringstream words(file.rest("options"));
      std::string word, momentum;
      int axis = 0, affine = 0, track = 0;
      std::int64_t channels = 0;
      double epsilon = 0;
      words >> word >> axis >> word >> channels >> word >> epsilon >> word >> momentum >> word >> affine >> word >>
          track;
      REQUIRE(words);
      const auto extents = file.numbers("shape");
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
      state.weight = golden::as<T>(file.numbers("weight"));
      state.bias = golden::as<T>(file.numbers("bias"));
      state.running_mean = golden::as<T>(file.numbers("running_mean"));
      state.running_var = golden::as<T>(file.numbers("running_var"));
      layer->set_parameters(state);
      for (; file.next(line) && line != "end"; ++steps) {
        layer->train(line == "step train");
        const auto x = golden::as<T>(file.numbers("x", 1.0 / 32)), dy = golden::as<T>(file.numbers("dy", 1.0 / 32));
        std::vector<T> y(x.size()), dx(x.size());
        layer->forward(geometry.extents, x.data(), y.data());
        layer->backward(geometry.extents, x.data(), dy.data(), dx.data());
        state = layer->state();
        INFO(line);
        CHECK(golden::distance(y, file.numbers("y")) < tolerance);
        CHECK(golden::distance(dx, file.numbers("dx")) < tolerance);
        CHECK(golden::distance(state.weight_grad, file.numbers("weight_grad")) < tolerance);
        CHECK(golden::distance(state.bias_grad, file.numbers("bias_grad")) < tolerance);
        CHECK(golden::distance(state.running_mean, file.numbers("running_mean")) < tolerance);
        CHECK(golden::distance(state.running_var, file.numbers("running_var")) < tolerance);
        CHECK(static_cast<double>(state.batches) == file.numbers("batches").at(0));
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
