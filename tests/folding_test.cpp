// Folding into the maps before and after a layer, against PyTorch's network and against the layer itself.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/safetensors.hpp>

#include <cmath>

#include "catch.hpp"

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::StateDict;
using batchnorm::WeightAxes;

namespace {

using Tensor4 = Eigen::Tensor<double, 4, Eigen::RowMajor>;
using Vector = Eigen::Tensor<double, 1>;

// y[n, o] = b[o] + sum over the inputs of o's group, w as PyTorch stores it. No padding, stride 1.
Tensor4 convolve(const Tensor4& x, const Tensor4& w, const Vector& b, int groups) {
  const Eigen::Index out = w.dimension(0), in = w.dimension(1), h = w.dimension(2), v = w.dimension(3);
  Tensor4 y(x.dimension(0), out, x.dimension(2) - h + 1, x.dimension(3) - v + 1);
  for (Eigen::Index n = 0; n < y.dimension(0); ++n)
    for (Eigen::Index o = 0; o < out; ++o)
      for (Eigen::Index r = 0; r < y.dimension(2); ++r)
        for (Eigen::Index c = 0; c < y.dimension(3); ++c) {
          double sum = b(o);
          for (Eigen::Index i = 0; i < in; ++i)
            for (Eigen::Index p = 0; p < h; ++p)
              for (Eigen::Index q = 0; q < v; ++q)
                sum += w(o, i, p, q) * x(n, o / (out / groups) * in + i, r + p, c + q);
          y(n, o, r, c) = sum;
        }
  return y;
}

// The transposed one, w of [in, out / groups, height, width].
Tensor4 convolve_transposed(const Tensor4& x, const Tensor4& w, const Vector& b, int groups) {
  const Eigen::Index in = w.dimension(0), out = w.dimension(1), h = w.dimension(2), v = w.dimension(3);
  Tensor4 y(x.dimension(0), out * groups, x.dimension(2) + h - 1, x.dimension(3) + v - 1);
  for (Eigen::Index n = 0; n < y.dimension(0); ++n) {
    for (Eigen::Index o = 0; o < y.dimension(1); ++o) y.chip(n, 0).chip(o, 0).setConstant(b(o));
    for (Eigen::Index i = 0; i < in; ++i)
      for (Eigen::Index o = 0; o < out; ++o)
        for (Eigen::Index r = 0; r < x.dimension(2); ++r)
          for (Eigen::Index c = 0; c < x.dimension(3); ++c)
            for (Eigen::Index p = 0; p < h; ++p)
              for (Eigen::Index q = 0; q < v; ++q)
                y(n, i / (in / groups) * out + o, r + p, c + q) += w(i, o, p, q) * x(n, i, r, c);
  }
  return y;
}

Tensor4 activated(const Tensor4& x, double slope) { return (x > 0.0).select(x, x * slope); }

template <class Bn>
void randomize(Bn& bn) {
  using S = typename Bn::Scalar;
  using V = Eigen::Matrix<S, Eigen::Dynamic, 1>;
  const Eigen::Index n = bn.options().num_features();
  bn.set_weight(V::Random(n)).set_bias(V::Random(n)).set_running_mean(V::Random(n));
  bn.set_running_var((V::Random(n).array() + S(1.5)).matrix());
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no std::invalid_argument";
}

}  // namespace

namespace {

// With bn3 folded into the map after it, or into that before.
void check_folded_network(bool after) {
  const StateDict file = batchnorm::load_safetensors(BATCHNORM_STATES_DIR "/network.safetensors");
  const auto weight = [&](const char* name) { return file.get<Tensor4>(std::string("net.") + name + ".weight"); };
  const auto bias = [&](const char* name) { return file.get<Vector>(std::string("net.") + name + ".bias"); };
  const auto layer = [&](const char* name, const BatchNormOptions& options) {
    BatchNorm<double, 4> bn(options);
    return bn.load_state_dict(file, std::string("net.") + name + ".");
  };
  const auto bn1 = layer("bn1", 4), bn2 = layer("bn2", BatchNormOptions(8).epsilon(1e-3));
  const auto bn3 = layer("bn3", BatchNormOptions(6).affine(false)), bn4 = layer("bn4", 4), bn5 = layer("bn5", 4);
  const auto bn6 = layer("bn6", 5).cast<double, 2>();
  Tensor4 conv = weight("conv"), depthwise = weight("depthwise"), transposed = weight("transposed");
  Tensor4 grouped = weight("grouped"), back = weight("back");
  auto fc = file.get<Eigen::MatrixXd>("net.fc.weight");
  auto fc_bias = file.get<Eigen::VectorXd>("net.fc.bias");
  Vector depthwise_bias = bias("depthwise"), transposed_bias = bias("transposed"), grouped_bias = bias("grouped");
  Vector back_bias = bias("back");

  const Vector conv_bias = bn1.fold_into(conv);
  bn2.fold_into(depthwise, depthwise_bias);
  if (after) {
    bn3.fold_into_next(grouped, grouped_bias, WeightAxes(0, 1, 2));
  } else {
    bn3.fold_into(transposed, transposed_bias, WeightAxes(1, 0, 2));
  }
  bn4.fold_into(grouped, grouped_bias, WeightAxes(0, 1, 2));
  bn5.fold_into_next(back, back_bias, WeightAxes(1, 0, 2));
  bn6.fold_into(fc, fc_bias);

  const auto x = file.get<Tensor4>("input");
  const Tensor4 a = activated(convolve(x, conv, conv_bias, 1), 0);
  const Tensor4 b = activated(convolve(a, depthwise, depthwise_bias, 4), 0.125);
  const Tensor4 c = convolve_transposed(b, transposed, transposed_bias, 2);
  const Tensor4 d = activated(convolve(c, grouped, grouped_bias, 2), 0);
  const Tensor4 e = convolve_transposed(d, back, back_bias, 2);
  using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::MatrixXd flat = Eigen::Map<const Rows>(e.data(), 2, 16);
  const Eigen::MatrixXd y = (flat * fc.transpose()).rowwise() + fc_bias.transpose();
  const auto expected = file.get<Eigen::MatrixXd>("output");
  // Some sums of 16 terms, one after another, each rounded by 1e-16 of values below 10.
  CHECK((y - expected).cwiseAbs().maxCoeff() < 1e-13);
}

}  // namespace

TEST_CASE("PyTorch's network gives the same outputs with every layer folded away") {
  check_folded_network(false);
  check_folded_network(true);
}

TEST_CASE("a matrix with its layer folded in gives the layer's outputs to rounding") {
  BatchNorm<float, 2> bn(8);
  randomize(bn);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(16, 5);
  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(8, 5);
  const Eigen::VectorXf b = Eigen::VectorXf::Random(8);
  const Eigen::MatrixXf expected = bn.infer((x * W.transpose()).rowwise() + b.transpose());

  // As a matrix, a block with gaps, a transposed one, and maps of raw arrays, all the same numbers.
  Eigen::MatrixXf folded = W;
  Eigen::VectorXf bias = b;
  bn.fold_into(folded, bias);
  const Eigen::MatrixXf y = (x * folded.transpose()).rowwise() + bias.transpose();
  CHECK((y - expected).cwiseAbs().maxCoeff() < 4e-6f);  // six terms of size 3, each off by 6e-8

  Eigen::MatrixXf large = Eigen::MatrixXf::Zero(12, 9);
  large.block(2, 3, 8, 5) = W;
  Eigen::RowVectorXf row = b.transpose();
  bn.fold_into(large.block(2, 3, 8, 5), row);
  CHECK(large.block(2, 3, 8, 5) == folded);
  CHECK(row == bias.transpose());
  CHECK(large.leftCols(3).isZero(0));

  Eigen::MatrixXf inputs_first = W.transpose();
  Eigen::Tensor<float, 1> tensor_bias(8);
  batchnorm::as_vector(tensor_bias) = b;
  bn.fold_into(inputs_first, tensor_bias, -1);
  CHECK(inputs_first == folded.transpose());
  CHECK(batchnorm::as_vector(tensor_bias) == bias);

  std::vector<float> raw(W.data(), W.data() + W.size()), raw_bias(b.data(), b.data() + b.size());
  Eigen::TensorMap<Eigen::Tensor<float, 2>> map(raw.data(), 8, 5);
  batchnorm::fold_into(bn.frozen(), map, Eigen::Map<Eigen::VectorXf>(raw_bias.data(), 8));
  CHECK(Eigen::Map<Eigen::MatrixXf>(raw.data(), 8, 5) == folded);
  CHECK(Eigen::Map<Eigen::VectorXf>(raw_bias.data(), 8) == bias);

  Eigen::MatrixXf without = W;
  const Eigen::VectorXf made = bn.fold_into(without);
  Eigen::MatrixXf zero_too = W;
  Eigen::VectorXf zero = Eigen::VectorXf::Zero(8);
  bn.fold_into(zero_too, zero);
  CHECK(made == zero);
  CHECK(without == folded);
}

TEST_CASE("a folded weight and bias are the exact ones, rounded once") {
  BatchNorm<float, 2> bn(64);
  randomize(bn);
  Eigen::MatrixXf W = Eigen::MatrixXf::Random(64, 7);
  Eigen::VectorXf b = Eigen::VectorXf::Random(64);
  const Eigen::MatrixXf before = W;
  const Eigen::VectorXf bias_before = b;
  bn.fold_into(W, b);
  for (int c = 0; c < 64; ++c) {
    const double scale =
        static_cast<double>(bn.weight()(c)) / std::sqrt(static_cast<double>(bn.running_var()(c)) + 1e-5);
    const double shift = (static_cast<double>(bias_before(c)) - static_cast<double>(bn.running_mean()(c))) * scale;
    CHECK(b(c) == static_cast<float>(shift + static_cast<double>(bn.bias()(c))));
    for (int i = 0; i < 7; ++i) CHECK(W(c, i) == static_cast<float>(static_cast<double>(before(c, i)) * scale));
  }
}

TEST_CASE("the map after a layer takes it in, in either order of axes") {
  BatchNorm<double, 2> bn(6);
  randomize(bn);
  const Eigen::MatrixXd x = Eigen::MatrixXd::Random(10, 6), V = Eigen::MatrixXd::Random(3, 6);
  const Eigen::VectorXd c = Eigen::VectorXd::Random(3);
  const Eigen::MatrixXd expected = (bn.infer(x) * V.transpose()).rowwise() + c.transpose();
  Eigen::MatrixXd folded = V, inputs_first = V.transpose();
  Eigen::VectorXd bias = c, same = c;
  bn.fold_into_next(folded, bias);
  bn.fold_into_next(inputs_first, same, 0);
  const Eigen::MatrixXd y = (x * folded.transpose()).rowwise() + bias.transpose();
  CHECK((y - expected).cwiseAbs().maxCoeff() < 1e-13);
  CHECK(inputs_first == folded.transpose());
  CHECK(same == bias);
  Eigen::MatrixXd without = V;
  const Eigen::VectorXd made = bn.fold_into_next(without);
  CHECK((made + c - bias).cwiseAbs().maxCoeff() < 1e-15);
  without = V;
  CHECK(batchnorm::fold_into_next(bn.frozen(), without) == made);
}

TEST_CASE("a Keras depthwise kernel has its output channels on two axes") {
  BatchNorm<double, 2> bn(6);
  randomize(bn);
  Eigen::Tensor<double, 4, Eigen::RowMajor> kernel(2, 2, 3, 2);  // [height, width, in, multiplier]
  kernel.setConstant(1);
  Eigen::VectorXd bias = Eigen::VectorXd::Zero(6);
  bn.fold_into(kernel, bias, WeightAxes(-1, -2, 3));
  const auto scale = bn.frozen().folded_scale();
  for (int i = 0; i < 3; ++i)
    for (int m = 0; m < 2; ++m) CHECK(kernel(1, 0, i, m) == scale[2 * i + m]);
  // And the layer of 3 channels before it.
  BatchNorm<double, 2> first(3);
  randomize(first);
  kernel.setConstant(1);
  bias.setZero();
  first.fold_into_next(kernel, bias, WeightAxes(-1, -2, 3));
  for (int o = 0; o < 6; ++o) CHECK(std::abs(bias[o] - 4 * first.frozen().folded_shift()[o / 2]) < 1e-15);
}

TEST_CASE("what does not fit is refused before anything is written") {
  BatchNorm<float, 2> bn(4);
  randomize(bn);
  Eigen::MatrixXf W = Eigen::MatrixXf::Random(4, 3), V = Eigen::MatrixXf::Random(3, 4);
  Eigen::VectorXf b = Eigen::VectorXf::Random(4), c = Eigen::VectorXf::Random(3);
  const Eigen::MatrixXf W_before = W, V_before = V;
  const Eigen::VectorXf b_before = b, c_before = c;
  CHECK(error_of([&] {
          bn.fold_into(V, b);
        }).find("4 output channels on axis 0 of the weight, got 3 in shape [3, 4]") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into(W, c); }).find("a bias of size 4, got shape [3]") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into(W, W); }).find("a bias of size 4, got shape [4, 3]") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into(W, b, 2); }).find("an axis of a weight of shape [4, 3], got 2") !=
        std::string::npos);
  CHECK(error_of([&] { bn.fold_into(W, b, WeightAxes(0, 0)); }).find("two axes") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into(W, b, WeightAxes(0, 1, 0)); }).find("at least 1 group") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into_next(W, c); }).find("4 input channels on axis 1") != std::string::npos);
  CHECK(error_of([&] { bn.fold_into_next(V, b); }).find("a bias of size 3, got shape [4]") != std::string::npos);
  Eigen::MatrixXf parts = Eigen::MatrixXf::Random(3, 2);  // of 2 groups, 2 channels each, but 3 inputs
  CHECK(error_of([&] { bn.fold_into(parts, b, WeightAxes(1, 0, 2)); }).find("multiple of 2 groups") !=
        std::string::npos);
  CHECK(error_of([&] { bn.fold_into_next(parts, c, WeightAxes(0, 1, 2)); }).find("multiple of 2 groups") !=
        std::string::npos);
  CHECK_THROWS_AS((BatchNorm<float, 2>(BatchNormOptions(4).track_running_stats(false)).fold_into(W, b)),
                  std::logic_error);
  CHECK(W == W_before);
  CHECK(V == V_before);
  CHECK(b == b_before);
  CHECK(c == c_before);
}

TEST_CASE("an activation follows the map before, and forbids folding into the map after") {
  BatchNorm<float, 2> bn(BatchNormOptions(4).activation(Activation::relu));
  randomize(bn);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(10, 4);
  Eigen::MatrixXf W = Eigen::MatrixXf::Identity(4, 4), before = W;
  const Eigen::VectorXf b = bn.fold_into(W);
  const Eigen::MatrixXf y = ((x * W.transpose()).rowwise() + b.transpose()).cwiseMax(0);
  CHECK((y - bn.infer(x)).cwiseAbs().maxCoeff() < 1e-6f);
  W = before;
  Eigen::VectorXf c = Eigen::VectorXf::Zero(4);
  CHECK(error_of([&] { bn.fold_into_next(W, c); }).find("activation") != std::string::npos);
  CHECK(W == before);
}

TEST_CASE("folding loses as many digits as the mean is deviations from 0") {
  // |mean| / std is about 1000: of float's 6e-8 it makes 6e-5 of a deviation, and no more than a few of these.
  constexpr int channels = 16;
  BatchNorm<float, 2> bn(channels);
  const Eigen::VectorXf variance = Eigen::VectorXf::LinSpaced(channels, 0.5f, 2);
  bn.set_running_mean(Eigen::VectorXf::Constant(channels, 1000)).set_running_var(variance);
  Eigen::MatrixXf W = Eigen::MatrixXf::Identity(channels, channels);
  const Eigen::VectorXf b = bn.fold_into(W);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(100, channels).array() + 1000;
  const Eigen::MatrixXf folded = (x * W.transpose()).rowwise() + b.transpose(), kept = bn.infer(x);
  const Eigen::MatrixXd exact =
      (x.cast<double>().array() - 1000).rowwise() / (variance.cast<double>().array() + 1e-5).sqrt().transpose();
  const double error = (folded.cast<double>() - exact).cwiseAbs().maxCoeff();
  CHECK(error > 2e-5);
  CHECK(error < 3e-4);
  CHECK((kept.cast<double>() - exact).cwiseAbs().maxCoeff() < 2e-7);
}

TEST_CASE("a layer of a folded map's outputs begins as the identity") {
  const Eigen::MatrixXf x = (Eigen::MatrixXf::Random(200, 3) * 5).array() + 2;
  batchnorm::Moments moments(3);
  moments.add(x);
  const auto options = BatchNormOptions(3).epsilon(1e-3);
  auto bn = batchnorm::identity_layer<float, 2>(options, moments);
  CHECK((bn.infer(x) - x).cwiseAbs().maxCoeff() < 2e-6f);  // |x| is at most 7
  CHECK(bn.options().epsilon() == 1e-3);
  CHECK(std::abs(bn.running_mean()(0) - x.col(0).mean()) < 1e-5f);
  const float variance = (x.col(1).array() - x.col(1).mean()).square().sum() / 199;
  CHECK(std::abs(bn.running_var()(1) - variance) < 1e-5f * variance);
  CHECK(bn.num_batches_tracked() == 1);
  CHECK(bn.is_training());
  CHECK((bn.forward(x) - x).cwiseAbs().maxCoeff() < 0.05f);  // by the batch's variance, biased
  CHECK_THROWS_AS((batchnorm::identity_layer<float, 2>(BatchNormOptions(4), moments)), std::invalid_argument);
  CHECK_THROWS_AS((batchnorm::identity_layer<float, 2>(BatchNormOptions(3).affine(false), moments)),
                  std::invalid_argument);
  CHECK_THROWS_AS((batchnorm::identity_layer<float, 2>(BatchNormOptions(3), batchnorm::Moments(3))),
                  std::invalid_argument);
}

TEST_CASE("16-bit weights and a bias of another scalar are folded, too") {
  BatchNorm<Eigen::half, 2> bn(2);
  bn.set_weight({2.0f, 3.0f}).set_bias({0.5f, 1.0f}).set_running_mean({1.0f, -1.0f});
  Eigen::Matrix<Eigen::half, 2, 1> W(Eigen::half(1.0f), Eigen::half(2.0f));
  Eigen::VectorXd b = Eigen::VectorXd::Zero(2);
  bn.fold_into(W, b);
  const double scale = 2 / std::sqrt(1 + 1e-5);
  CHECK(W(0) == Eigen::half(static_cast<float>(scale)));
  CHECK(b(0) == 0.5 - scale);
}
