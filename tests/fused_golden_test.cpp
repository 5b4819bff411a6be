// Activation and residual against PyTorch: golden/generate.py wrote what torch.nn.BatchNorm1d and 2d, an addition and
// relu or leaky_relu do in float64, and what autograd says of their gradients.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "fused_kernels.hpp"
#include "golden.hpp"

namespace {

using batchnorm::Activation;
using batchnorm::BatchNormOptions;
using batchnorm::output;
using batchnorm::residual;
using batchnorm::residual_grad;

template <class T, int Rank, int Layout>
class Player {
  using Layer = batchnorm::BatchNorm<T, Rank>;
  using Map = Eigen::TensorMap<Eigen::Tensor<T, Rank, Layout>>;

  // PyTorch computed in double and 13 digits were written; float adds its own rounding, which the cancellation in dx
  // and the sums of the parameters' gradients enlarge a few times. No value lies so near to 0 that the tolerance would
  // let the activation take the other side.
  static constexpr double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-12;

 public:
  // Plays all cases of a file and returns how many steps there were.
  static int play(const std::string& path) {
    golden::File file(path);
    int steps = 0;
    for (std::string line; file.next(line);) {
      INFO(path << ", " << line << (Layout == Eigen::ColMajor ? ", as ColMajor" : ""));
      std::istringstream words(file.rest("options"));
      std::string word;
      int axis = 0, has_residual = 0;
      Eigen::Index channels = 0;
      double slope = 0;
      words >> word >> axis >> word >> channels >> word >> slope >> word >> has_residual;
      REQUIRE(words);
      const auto extents = file.numbers("shape");
      REQUIRE(extents.size() == static_cast<std::size_t>(Rank));
      std::array<Eigen::Index, Rank> sizes{};
      std::copy(extents.begin(), extents.end(), sizes.begin());
      if (axis < 0) axis += Rank;
      if (Layout == Eigen::ColMajor) {  // the same memory, told the other way round
        std::reverse(sizes.begin(), sizes.end());
        axis = Rank - 1 - axis;
      }
      Layer bn(BatchNormOptions(channels).channel_axis(axis).activation(Activation::leaky_relu(slope)));
      bn.set_weight(file.numbers("weight")).set_bias(file.numbers("bias"));
      bn.set_running_mean(file.numbers("running_mean")).set_running_var(file.numbers("running_var"));
      for (; file.next(line) && line != "end"; ++steps) {
        INFO(line);
        step(file, bn, sizes, line == "step train", has_residual != 0);
      }
    }
    return steps;
  }

 private:
  static std::vector<T> values(const typename Layer::Vector& v) { return {v.data(), v.data() + v.size()}; }

  static void step(golden::File& file, Layer& bn, const std::array<Eigen::Index, Rank>& sizes, bool train,
                   bool has_residual) {
    auto x = golden::as<T>(file.numbers("x", 1.0 / 32)), r = golden::as<T>(file.numbers("residual", 1.0 / 32)),
         dy = golden::as<T>(file.numbers("dy", 1.0 / 32));
    std::vector<T> y(x.size()), inferred(x.size()), dx(x.size()), dr(x.size());
    const auto map = [&](std::vector<T>& memory) { return Map(memory.data(), sizes); };
    auto y_map = map(y), inferred_map = map(inferred), dx_map = map(dx), dr_map = map(dr);
    bn.train(train);
    if (has_residual) {
      bn.forward(map(x), y_map, residual(map(r)));
      bn.infer(map(x), inferred_map, residual(map(r)));
    } else {
      bn.forward(map(x), y_map);
      bn.infer(map(x), inferred_map);
    }
    bn.backward(map(x), map(dy), dx_map, output(y_map), residual_grad(dr_map));
    CHECK(golden::distance(y, file.numbers("y")) < tolerance);
    if (!train) CHECK(inferred == y);
    CHECK(golden::distance(dx, file.numbers("dx")) < tolerance);
    const auto expected = file.numbers("residual_grad");
    if (has_residual) {
      CHECK(golden::distance(dr, expected) < tolerance);
    } else {  // then backward needs no output
      std::vector<T> again(x.size());
      auto again_map = map(again);
      auto copy = bn;
      copy.backward(map(x), map(dy), again_map);
      CHECK(again == dx);
    }
    CHECK(golden::distance(values(bn.weight_grad()), file.numbers("weight_grad")) < tolerance);
    CHECK(golden::distance(values(bn.bias_grad()), file.numbers("bias_grad")) < tolerance);
    CHECK(golden::distance(values(bn.running_mean()), file.numbers("running_mean")) < tolerance);
    CHECK(golden::distance(values(bn.running_var()), file.numbers("running_var")) < tolerance);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("batch norm with an activation and a residual is PyTorch's, and its gradients are", "", float,
                   double) {
  const std::string folder = BATCHNORM_GOLDEN_DIR "/fused_";
  CHECK(Player<TestType, 2, Eigen::RowMajor>::play(folder + "rank2_contiguous.txt") == 12);
  CHECK(Player<TestType, 2, Eigen::ColMajor>::play(folder + "rank2_contiguous.txt") == 12);
  for (const std::string format : {"contiguous", "channels_last"}) {
    CHECK(Player<TestType, 4, Eigen::RowMajor>::play(folder + "rank4_" + format + ".txt") == 12);
    CHECK(Player<TestType, 4, Eigen::ColMajor>::play(folder + "rank4_" + format + ".txt") == 12);
  }
}
