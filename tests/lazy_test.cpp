// Layers that take their number of channels from what comes first.

#include <batchnorm/batchnorm.hpp>

#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::Moments;
using batchnorm::SingleValue;
using Catch::Matchers::Message;
using Batch = Eigen::Tensor<float, 3, Eigen::RowMajor>;
using Layer = BatchNorm<float, 3>;

Batch batch_of(Eigen::Index samples, Eigen::Index channels) {
  Batch x(samples, channels, 4);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>((i * 37) % 101) / 10;
  return x;
}

bool same(const Batch& a, const Batch& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

void check_lazy(const Layer& bn) {
  CHECK(bn.options().num_features() == 0);
  for (const auto* vector :
       {&bn.weight(), &bn.bias(), &bn.running_mean(), &bn.running_var(), &bn.weight_grad(), &bn.bias_grad()}) {
    CHECK(vector->size() == 0);
  }
  CHECK(bn.saved_statistics().mean().size() == 0);
  CHECK_FALSE(bn.saved_statistics().has_forward());
}

const char* const no_channels =
    "batchnorm: expected a layer that has its channels, got one that was made without their number, which it takes "
    "from "
    "its first forward in training, or from set_weight or another setter";

}  // namespace

TEST_CASE("a layer made without channels is empty, and after its first forward one of as many as x has") {
  const Batch x = batch_of(6, 5);
  Layer lazy, plain(5);
  check_lazy(lazy);
  CHECK(same(lazy.forward(x), plain.forward(x)));
  CHECK(lazy.options().num_features() == 5);
  CHECK(snapshot(lazy) == snapshot(plain));
  CHECK(same(lazy.backward(x, x), plain.backward(x, x)));
  CHECK(same(lazy.infer(x), plain.infer(x)));
  CHECK(same(lazy.forward(x), plain.forward(x)));
  CHECK(snapshot(lazy) == snapshot(plain));
  CHECK_THROWS_AS(lazy.forward(batch_of(6, 4)), std::invalid_argument);
}

TEST_CASE("a layer without channels keeps all other settings") {
  const auto options = [](auto given) {
    return given.epsilon(0.5).momentum(std::nullopt).shift(false).channel_axis(-1).single_value(SingleValue::allow);
  };
  const Batch x = batch_of(6, 5);
  Layer lazy(options(BatchNormOptions())), plain(options(BatchNormOptions(4)));
  lazy.check_backward(true);
  plain.check_backward(true);
  CHECK(same(lazy.forward(x), plain.forward(x)));
  CHECK(snapshot(lazy) == snapshot(plain));
  CHECK(lazy.check_backward());
  CHECK(same(lazy.backward(x, x), plain.backward(x, x)));

  Layer fused(BatchNormOptions().activation(Activation::relu)), other(BatchNormOptions(5).activation(Activation::relu));
  CHECK(same(fused.forward(x, batchnorm::residual(x)), other.forward(x, batchnorm::residual(x))));
  CHECK(same(fused.backward(x, x, batchnorm::output(x)).first, other.backward(x, x, batchnorm::output(x)).first));
}

TEST_CASE("presets without a number of channels are those with one") {
  CHECK(BatchNormOptions::keras().num_features() == 0);
  CHECK(BatchNormOptions::keras().epsilon() == 1e-3);
  CHECK(BatchNormOptions::keras().channel_axis() == -1);
  CHECK(BatchNormOptions::onnx().num_features() == 0);
  CHECK(*BatchNormOptions::onnx().momentum() == *BatchNormOptions::onnx(3).momentum());
  CHECK(BatchNormOptions::onnx().single_value() == SingleValue::allow);
  CHECK(BatchNormOptions::pytorch().num_features() == 0);
  CHECK(BatchNormOptions::pytorch().epsilon() == 1e-5);
}

TEST_CASE("inference, backward and frozen are errors before the channels are known") {
  const Batch x = batch_of(6, 5);
  Layer lazy;
  const auto before = snapshot(lazy);
  Batch y = x;
  CHECK_THROWS_MATCHES(lazy.infer(x), std::logic_error, Message(no_channels));
  CHECK_THROWS_MATCHES(lazy.infer(x, y), std::logic_error, Message(no_channels));
  CHECK_THROWS_MATCHES(lazy.frozen(), std::logic_error, Message(no_channels));
  CHECK_THROWS_AS(lazy.backward(x, x), std::logic_error);
  Layer trained(5);
  trained.forward(x);
  CHECK_THROWS_MATCHES(lazy.backward(x, x, trained.saved_statistics()), std::logic_error, Message(no_channels));
  lazy.eval();
  CHECK_THROWS_MATCHES(lazy.forward(x), std::logic_error, Message(no_channels));
  lazy.train();
  CHECK(snapshot(lazy) == before);
  CHECK(same(y, x));
}

TEST_CASE("a forward that throws leaves a layer without channels") {
  Layer lazy;
  Batch x = batch_of(6, 5), other(6, 4, 4);
  CHECK_THROWS_AS(lazy.forward(x, other), std::invalid_argument);
  check_lazy(lazy);
  CHECK_THROWS_AS(lazy.forward(Batch(1, 5, 1)), std::invalid_argument);  // a single value per channel
  check_lazy(lazy);
  CHECK_THROWS_MATCHES(lazy.forward(Batch(6, 0, 4)), std::invalid_argument,
                       Message("batchnorm: expected at least 1 channel on axis 1, got 0 in shape [6, 0, 4]"));
  check_lazy(lazy);
  lazy.forward(batch_of(6, 3));
  CHECK(lazy.options().num_features() == 3);
}

TEST_CASE("a first batch without samples brings the channels, and nothing else") {
  Layer lazy, plain(5);
  lazy.forward(Batch(0, 5, 4));
  plain.forward(Batch(0, 5, 4));
  CHECK(snapshot(lazy) == snapshot(plain));
}

TEST_CASE("each setter brings the channels, and the rest is that of a new layer") {
  const std::vector<float> values{4, 5, 6};
  const auto check = [&](auto set) {
    Layer lazy, plain(3);
    set(lazy);
    set(plain);
    CHECK(lazy.options().num_features() == 3);
    CHECK(snapshot(lazy) == snapshot(plain));
    CHECK(same(lazy.infer(batch_of(2, 3)), plain.infer(batch_of(2, 3))));
  };
  check([&](Layer& bn) { bn.set_weight(values); });
  check([&](Layer& bn) { bn.set_bias(values); });
  check([&](Layer& bn) { bn.set_running_mean(values); });
  check([&](Layer& bn) { bn.set_running_var({4, 5, 6}); });
  check([&](Layer& bn) { bn.set_running_stats(Moments(4, values, values)); });
  check([&](Layer& bn) { bn.num_batches_tracked(7).set_weight(values).set_bias(values); });
  Layer shifted;
  shifted.set_bias(values);
  CHECK(shifted.weight()(2) == 1);
  CHECK(shifted.running_mean()(2) == 0);
  CHECK(shifted.running_var()(2) == 1);
  Layer trained(3);
  trained.forward(batch_of(6, 3));
  check([&](Layer& bn) { bn.set_running_stats(trained.running_stats()); });
}

TEST_CASE("values that do not fit leave a layer without channels") {
  Layer lazy;
  CHECK_THROWS_AS(lazy.set_weight(std::vector<float>()), std::invalid_argument);
  check_lazy(lazy);
  auto statistics = Layer(3).running_stats();
  statistics.running_var = Eigen::Tensor<float, 1>(2);
  CHECK_THROWS_MATCHES(lazy.set_running_stats(statistics), std::invalid_argument,
                       Message("batchnorm: expected running_var of size 3, got 2"));
  CHECK_THROWS_AS(lazy.set_running_stats(Moments(3)), std::invalid_argument);
  check_lazy(lazy);
  Layer unscaled(BatchNormOptions().scale(false));
  unscaled.set_weight(std::vector<float>());
  CHECK(unscaled.options().num_features() == 0);
  CHECK_THROWS_AS(unscaled.set_weight({1, 2}), std::invalid_argument);
  CHECK(unscaled.options().num_features() == 0);
}

TEST_CASE("a vector that was put into a layer without channels by hand is not lost in silence") {
  Layer lazy;
  lazy.weight() = Eigen::Tensor<float, 1>(5);
  CHECK_THROWS_MATCHES(lazy.forward(batch_of(6, 5)), std::invalid_argument,
                       Message("batchnorm: expected weight of size 0, got 5"));
  CHECK(lazy.weight().size() == 5);
}

TEST_CASE("layers without channels are copied, moved and reset as others are") {
  struct Net {
    Layer first, second;
  } net;
  const Batch x = batch_of(6, 5);
  Layer copy = net.first;
  copy.forward(x);
  check_lazy(net.first);
  Layer moved = std::move(net.second);
  check_lazy(moved);
  CHECK_THROWS_AS(net.second.forward(x), std::logic_error);
  CHECK_THROWS_AS(net.second.set_weight({1, 2}), std::logic_error);
  net.second = net.first;
  net.second.forward(x);
  CHECK(net.second.options().num_features() == 5);
  net.second = net.first;
  check_lazy(net.second);
  moved.reset_parameters().zero_grad();
  check_lazy(moved);
  CHECK(moved.running_stats().running_mean.size() == 0);
  std::vector<Layer> layers(3);
  for (auto& layer : layers) layer.forward(x);
  CHECK(snapshot(layers[0]) == snapshot(copy));
}

TEST_CASE("matrices and 16-bit tensors bring channels too") {
  BatchNorm<float, 2> rows, columns(BatchNormOptions().channel_axis(0));
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(6, 3);
  rows.forward(x);
  columns.forward(x);
  CHECK(rows.options().num_features() == 3);
  CHECK(columns.options().num_features() == 6);
  BatchNorm<Eigen::half, 3> half;
  half.forward(Eigen::Tensor<Eigen::half, 3, Eigen::RowMajor>(batch_of(6, 5).cast<Eigen::half>()));
  CHECK(half.options().num_features() == 5);
}
