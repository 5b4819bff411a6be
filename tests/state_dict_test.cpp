// State dicts, parameters for optimizers, and layers of other types.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <limits>

#include "catch.hpp"
#include "snapshot.hpp"

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::DType;
using batchnorm::NamedArray;
using batchnorm::StateDict;
using batchnorm::StateNames;

namespace {

BatchNorm<float, 2> trained(const BatchNormOptions& options = BatchNormOptions(3)) {
  BatchNorm<float, 2> bn(options);
  if (options.scale()) bn.set_weight({1.5f, 2.0f, -0.25f});
  if (options.shift()) bn.set_bias({0.5f, -1.0f, 3.0f});
  if (options.track_running_stats()) {
    bn.set_running_mean({1.0f, 2.0f, 3.0f}).set_running_var({0.5f, 1.5f, 4.0f}).num_batches_tracked(7);
  }
  return bn;
}

std::vector<std::string> names(const StateDict& dict) {
  std::vector<std::string> result;
  for (const NamedArray& array : dict) result.push_back(array.name);
  return result;
}

std::vector<double> values(const StateDict& dict, const std::string& name) {
  const auto vector = dict.get<Eigen::VectorXd>(name);
  return {vector.data(), vector.data() + vector.size()};
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

// Loads, which must fail with a message that has all of the words, and leaves the layer as it was.
void check_refused(BatchNorm<float, 2>& bn, const StateDict& dict, const std::string& prefix,
                   const std::vector<std::string>& words) {
  const auto before = snapshot(bn);
  const std::string message = error_of([&] { bn.load_state_dict(dict, prefix); });
  for (const std::string& word : words) {
    INFO(message << " should name " << word);
    CHECK(message.find(word) != std::string::npos);
  }
  CHECK(snapshot(bn) == before);
}

}  // namespace

TEST_CASE("a state dict has PyTorch's names, shapes and dtypes behind the prefix") {
  const BatchNorm<float, 2> bn = trained();
  const StateDict dict = bn.state_dict("net.bn1.");
  CHECK(names(dict) == std::vector<std::string>{"net.bn1.weight", "net.bn1.bias", "net.bn1.running_mean",
                                                "net.bn1.running_var", "net.bn1.num_batches_tracked"});
  CHECK(dict.at("net.bn1.weight").shape == std::vector<std::int64_t>{3});
  CHECK(dict.at("net.bn1.weight").dtype == DType::float32);
  CHECK(dict.at("net.bn1.num_batches_tracked").shape.empty());
  CHECK(dict.at("net.bn1.num_batches_tracked").dtype == DType::int64);
  CHECK(dict.get<std::int64_t>("net.bn1.num_batches_tracked") == 7);
  CHECK(values(dict, "net.bn1.running_var") == std::vector<double>{0.5, 1.5, 4});
  CHECK(BatchNorm<double, 2>(3).state_dict().at("bias").dtype == DType::float64);
  CHECK(BatchNorm<Eigen::half, 2>(3).state_dict().at("bias").dtype == DType::float32);
}

TEST_CASE("a layer takes back its state dict, in the memory of its vectors") {
  const StateDict dict = trained().state_dict("a.");
  BatchNorm<float, 2> bn(3);
  const float* const weight = bn.weight().data();
  CHECK(&bn.load_state_dict(dict, "a.") == &bn);
  CHECK(snapshot(bn) == snapshot(trained()));
  CHECK(bn.weight().data() == weight);
}

TEST_CASE("what the options switch off is neither in a state dict nor taken from one") {
  CHECK(names(trained(BatchNormOptions(3).affine(false)).state_dict()) ==
        std::vector<std::string>{"running_mean", "running_var", "num_batches_tracked"});
  CHECK(names(trained(BatchNormOptions(3).scale(false).track_running_stats(false)).state_dict()) ==
        std::vector<std::string>{"bias"});
  BatchNorm<float, 2> plain(BatchNormOptions(3).affine(false));
  plain.load_state_dict(trained(BatchNormOptions(3).affine(false)).state_dict());
  CHECK(plain.running_mean()(2) == 3);
  check_refused(plain, trained().state_dict(), "", {"unexpected: \"weight\", \"bias\""});
  BatchNorm<float, 2> untracked(BatchNormOptions(3).track_running_stats(false));
  check_refused(untracked, trained().state_dict(), "", {"unexpected: ", "\"num_batches_tracked\""});
}

TEST_CASE("missing and unexpected names are errors that list them, and change nothing") {
  BatchNorm<float, 2> bn = trained();
  StateDict dict = BatchNorm<float, 2>(3).state_dict("bn1.");
  dict.erase("bn1.bias");
  dict.erase("bn1.num_batches_tracked");
  dict.add("bn1.gamma", 1.0f).add("bn10.weight", 1.0f).add("fc", 1.0f);
  check_refused(
      bn, dict, "bn1.",
      {"missing: \"bn1.bias\", \"bn1.num_batches_tracked\"", "unexpected: \"bn1.gamma\"", "under the prefix \"bn1.\""});
  const std::string message = error_of([&] { bn.load_state_dict(dict, "bn1."); });
  CHECK(message.find("bn10") == std::string::npos);
  CHECK(message.find("fc") == std::string::npos);
  check_refused(bn, dict, "bn1", {"a prefix ends with its dot: \"bn1.\""});
  StateDict many = bn.state_dict();
  for (int i = 0; i < 25; ++i) many.add("extra" + std::to_string(i), 1.0f);
  check_refused(bn, many, "", {"\"extra9\" and 15 more"});
}

TEST_CASE("a wrong shape or type is an error that names both, and changes nothing") {
  BatchNorm<float, 2> bn = trained();
  // The wrong one is the last that is looked at, and all others would fit.
  const auto with = [](const std::string& name, const auto& value) {
    StateDict dict = BatchNorm<float, 2>(3).state_dict();
    dict.erase(name);
    return dict.add(name, value);
  };
  check_refused(bn, with("running_var", Eigen::VectorXf::Zero(4).eval()), "", {"\"running_var\"", "[3]", "[4]"});
  check_refused(bn, with("bias", Eigen::MatrixXf::Zero(3, 1).eval()), "", {"\"bias\"", "[3]", "[3, 1]"});
  check_refused(bn, with("weight", Eigen::VectorXi::Zero(3).eval()), "", {"\"weight\"", "floating-point", "int32"});
  check_refused(bn, with("num_batches_tracked", 1.0f), "", {"\"num_batches_tracked\"", "int64", "float32"});
  check_refused(bn, with("num_batches_tracked", std::int64_t{-1}), "", {"at least 0", "-1"});
  const Eigen::Matrix<std::int64_t, Eigen::Dynamic, 1> two = Eigen::Matrix<std::int64_t, 2, 1>::Constant(2);
  check_refused(bn, with("num_batches_tracked", two), "", {"\"num_batches_tracked\"", "[]", "[2]"});
  bn.load_state_dict(with("num_batches_tracked", two.head(1).eval()));  // as PyTorch wrote it once
  CHECK(bn.num_batches_tracked() == 2);
}

TEST_CASE("floating-point arrays of any dtype are rounded once to the layer's parameters") {
  const double third = 1.0 / 3, tiny = std::ldexp(1.0, -160), huge = 1e300;
  Eigen::Vector3d exact(third, tiny, huge);
  StateDict dict = BatchNorm<double, 2>(3).set_weight(exact).state_dict();
  BatchNorm<float, 2> bn(3);
  bn.load_state_dict(dict);
  CHECK(bn.weight()(0) == static_cast<float>(third));
  CHECK(bn.weight()(1) == 0);
  CHECK(bn.weight()(2) == std::numeric_limits<float>::infinity());

  dict.erase("weight");
  const Eigen::Matrix<Eigen::half, 3, 1> half = Eigen::Vector3f(1.5f, -0.25f, 65504.0f).cast<Eigen::half>();
  BatchNorm<double, 2> wide(3);
  wide.load_state_dict(StateDict(dict).add("weight", half));
  CHECK(wide.weight()(2) == 65504);
  const Eigen::Matrix<Eigen::bfloat16, 3, 1> brain = Eigen::Vector3f(1.5f, -0.25f, 0x1p100f).cast<Eigen::bfloat16>();
  wide.load_state_dict(StateDict(dict).add("weight", brain));
  CHECK(wide.weight()(2) == 0x1p100);
}

TEST_CASE("a double becomes a 16-bit number as if it had never been a float") {
  // Just above the middle of two halves, by less than a float can tell.
  const double middle = 1 + std::ldexp(1.0, -11);
  const double above = middle + std::ldexp(1.0, -40), below = middle - std::ldexp(1.0, -40);
  for (const double sign : {1.0, -1.0}) {
    const auto rounded = [&](double value) {
      const auto array = NamedArray::of("x", sign * value);
      return sign * static_cast<double>(static_cast<float>(array.as<Eigen::half>()));
    };
    CHECK(rounded(above) == 1 + std::ldexp(1.0, -10));
    CHECK(rounded(middle) == 1);
    CHECK(rounded(below) == 1);
    const double up = 3 * std::ldexp(1.0, -11) + 1;  // here a tie goes up
    CHECK(rounded(up - std::ldexp(1.0, -40)) == 1 + std::ldexp(1.0, -10));
    CHECK(rounded(up) == 1 + std::ldexp(1.0, -9));
  }
  CHECK(std::isnan(static_cast<float>(NamedArray::of("x", std::nan("")).as<Eigen::half>())));
  CHECK(std::isinf(static_cast<float>(NamedArray::of("x", 1e300).as<Eigen::bfloat16>())));
}

TEST_CASE("Keras' names are a mapping, and leave the number of batches as it is") {
  const StateDict dict = trained().state_dict("bn/", StateNames::keras());
  CHECK(names(dict) == std::vector<std::string>{"bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"});
  BatchNorm<float, 2> bn(3);
  bn.num_batches_tracked(4).load_state_dict(dict, "bn/", StateNames::keras());
  CHECK(bn.bias()(2) == 3);
  CHECK(bn.running_var()(0) == 0.5f);
  CHECK(bn.num_batches_tracked() == 4);
}

TEST_CASE("the dicts of many layers are one, in which each name is once") {
  StateDict dict = trained().state_dict("bn1.");
  Eigen::MatrixXf W(2, 3);
  W << 1, 2, 3, 4, 5, 6;
  dict.merge(BatchNorm<double, 2>(2).state_dict("bn2.")).add("fc.weight", W);
  CHECK(dict.size() == 11);
  const StateDict before = dict;
  CHECK(error_of([&] { dict.merge(trained().state_dict("bn1.")); }).find("\"bn1.weight\"") != std::string::npos);
  CHECK(error_of([&] { dict.add("fc.weight", W); }).find("\"fc.weight\"") != std::string::npos);
  CHECK(error_of([&] { dict.rename("fc.weight", "bn1.bias"); }).find("\"bn1.bias\"") != std::string::npos);
  CHECK(error_of([&] { dict.get<float>("nothing"); }).find("\"nothing\"") != std::string::npos);
  CHECK(error_of([&] {
          StateDict({before.at("bn1.bias"), before.at("bn1.bias")});
        }).find("twice") != std::string::npos);
  CHECK(dict == before);
  BatchNorm<double, 2> second(2);
  second.load_state_dict(dict, "bn2.");

  CHECK(dict.rename("fc.weight", "head.weight").contains("head.weight"));
  CHECK_FALSE(dict.contains("fc.weight"));
  CHECK(dict.erase("head.weight"));
  CHECK_FALSE(dict.erase("head.weight"));
  CHECK(dict.size() == 10);
}

TEST_CASE("arrays hold tensors of either storage order with the last axis running fastest") {
  Eigen::Tensor<float, 3, Eigen::RowMajor> rows(2, 3, 4);
  for (int i = 0; i < 24; ++i) rows.data()[i] = static_cast<float>(i);
  const Eigen::Tensor<float, 3> columns = rows.swap_layout().shuffle(Eigen::array<int, 3>{2, 1, 0});
  const NamedArray a = NamedArray::of("x", rows), b = NamedArray::of("x", columns);
  CHECK(a == b);
  CHECK(a.shape == std::vector<std::int64_t>{2, 3, 4});
  const auto back = a.as<Eigen::Tensor<double, 3>>();
  CHECK(back(1, 2, 3) == 23);
  CHECK(back(1, 0, 2) == 14);

  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(5, 4);
  const NamedArray block = NamedArray::of("W", W.block(1, 1, 3, 2));
  CHECK(block.as<Eigen::MatrixXf>() == W.block(1, 1, 3, 2));
  CHECK(NamedArray::of("W", W.row(2)).as<Eigen::VectorXf>() == W.row(2).transpose());
  CHECK(NamedArray::of("W", W * 2.0f).as<Eigen::Matrix<float, 5, 4, Eigen::RowMajor>>() == W * 2.0f);
  CHECK(error_of([&] { a.as<Eigen::MatrixXf>(); }).find("2 axes, got shape [2, 3, 4]") != std::string::npos);
  CHECK(error_of([&] { NamedArray::of("W", W).as<Eigen::Matrix2f>(); }).find("[5, 4]") != std::string::npos);
}

TEST_CASE("integers become other integers where each fits, and nothing of another kind") {
  Eigen::VectorXi ints(3);
  ints << 1, -2, 300;
  const NamedArray array = NamedArray::of("x", ints);
  CHECK(array.as<Eigen::Matrix<std::int64_t, 3, 1>>()(2) == 300);
  using Bytes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, 1>;
  using Words = Eigen::Matrix<std::uint16_t, Eigen::Dynamic, 1>;
  using Signed = Eigen::Matrix<std::int16_t, Eigen::Dynamic, 1>;
  CHECK(array.as<Signed>()(1) == -2);
  CHECK(error_of([&] { array.as<Words>(); }).find("element 1") != std::string::npos);
  CHECK(error_of([&] { NamedArray::of("x", ints.tail(1)).as<Bytes>(); }).find("element 0") != std::string::npos);
  CHECK(error_of([&] { array.as<Eigen::VectorXf>(); }).find("int32") != std::string::npos);
  CHECK(error_of([&] { NamedArray::of("x", 1.0f).as<int>(); }).find("float32") != std::string::npos);
  CHECK(error_of([&] { NamedArray::of("x", true).as<int>(); }).find("boolean") != std::string::npos);
  CHECK(NamedArray::of("x", true).as<bool>());
  NamedArray wrong = array;
  wrong.shape = {4};
  CHECK(error_of([&] { wrong.as<Eigen::VectorXi>(); }).find("expected 16 bytes") != std::string::npos);
  wrong.shape = {std::int64_t{1} << 62, 4};
  CHECK(error_of([&] { StateDict().add(wrong); }).find("memory") != std::string::npos);
}

TEST_CASE("an optimizer reaches every parameter and its gradient in the layer's memory") {
  BatchNorm<float, 2> bn = trained();
  bn.weight_grad().setConstant(2);
  bn.bias_grad().setConstant(-4);
  std::vector<std::string> found;
  for (auto& parameter : bn.parameters("bn1.")) {
    found.push_back(parameter.name);
    CHECK(parameter.value.size() == 3);
    CHECK(parameter.gradient.size() == 3);
    parameter.value -= 0.5f * parameter.gradient;
  }
  CHECK(found == std::vector<std::string>{"bn1.weight", "bn1.bias"});
  CHECK(bn.weight()(0) == 0.5f);
  CHECK(bn.bias()(0) == 2.5f);
  BatchNorm<float, 2> shift(BatchNormOptions(3).scale(false));
  REQUIRE(shift.parameters().size() == 1);
  CHECK(shift.parameters()[0].value.data() == shift.bias().data());
}

TEST_CASE("a cast layer has every setting, parameter, gradient and statistic") {
  BatchNormOptions options(3);
  options.epsilon(0.25).momentum(std::nullopt).channel_axis(-1).running_variance(batchnorm::Variance::biased);
  options.single_value(batchnorm::SingleValue::allow);
  BatchNorm<float, 2> bn = trained(options);
  bn.weight_grad().setConstant(2);
  bn.eval().check_backward(true);
  const BatchNorm<double, 4> wide = bn.cast<double, 4>();
  CHECK(wide.options().epsilon() == 0.25);
  CHECK_FALSE(wide.options().momentum().has_value());
  CHECK(wide.options().channel_axis() == -1);
  CHECK(wide.options().running_variance() == batchnorm::Variance::biased);
  CHECK(wide.options().single_value() == batchnorm::SingleValue::allow);
  CHECK_FALSE(wide.is_training());
  CHECK(wide.check_backward());
  CHECK(wide.weight()(2) == -0.25);
  CHECK(wide.weight_grad()(0) == 2);
  CHECK(wide.running_var()(2) == 4);
  CHECK(wide.num_batches_tracked() == 7);
  CHECK_FALSE(wide.saved_statistics().has_forward());
  CHECK(snapshot(wide.cast<float, 2>()) == snapshot(bn));
  CHECK(bn.cast<Eigen::half>().weight()(0) == 1.5f);
  CHECK_THROWS_AS((BatchNorm<float, 4>(BatchNormOptions(3).channel_axis(3)).cast<float, 2>()), std::invalid_argument);
  CHECK(trained(BatchNormOptions(3).scale(false)).cast<double>().weight().size() == 0);
}

TEST_CASE("a layer without channels takes them from a state dict, and a wrong dict leaves it so") {
  batchnorm::BatchNorm<float, 2> layer(3), lazy;
  layer.set_weight({1, 2, 3});
  const StateDict dict = layer.state_dict("bn.");
  CHECK_THROWS_AS(lazy.load_state_dict(dict, "other."), std::invalid_argument);
  CHECK(lazy.options().num_features() == 0);
  lazy.load_state_dict(dict, "bn.");
  CHECK(lazy.options().num_features() == 3);
  CHECK(lazy.weight()(2) == 3);
  CHECK(lazy.running_var()(0) == 1);
}

TEST_CASE("a cast layer keeps its switches, ghost batches and renormalization") {
  batchnorm::BatchNorm<float, 2> layer(batchnorm::BatchNormOptions(3).virtual_batch_size(2).renorm(3, 5));
  layer.normalize_with(batchnorm::Statistics::mixed(4)).update_running_stats(false);
  const auto cast = layer.cast<double, 4>();
  CHECK(cast.options().virtual_batch_size() == 2);
  CHECK(cast.options().renorm_d_max() == 5);
  CHECK(cast.normalize_with() == layer.normalize_with());
  CHECK(cast.update_running_stats() == false);
}

TEST_CASE("a cast layer keeps its activation, and computes with it") {
  const auto options = BatchNormOptions(2).activation(Activation::leaky_relu(0.5)).epsilon(0);
  const BatchNorm<float, 2> bn(options);
  Eigen::MatrixXd x(1, 2);
  x << -4, 3;
  const Eigen::MatrixXd y = bn.cast<double>().infer(x);
  CHECK(y(0, 0) == -2);
  CHECK(y(0, 1) == 3);
}
