// What is wrong is said in one message that names what was expected and what came, and a call that throws has changed
// nothing.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fragile.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::SingleValue;
using Catch::Matchers::Message;

using Layer = BatchNorm<float, 4>;
using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using Map = Eigen::TensorMap<Tensor>;

template <class Tensor4>
Tensor4 filled(Tensor4 tensor, std::uint64_t seed) {
  Random random(seed);
  for (Eigen::Index i = 0; i < tensor.size(); ++i) {
    tensor.data()[i] = static_cast<typename Tensor4::Scalar>(random.uniform(-2, 3));
  }
  return tensor;
}

template <class T>
std::vector<T> elements(const Eigen::Tensor<T, 4, Eigen::RowMajor>& tensor) {
  return {tensor.data(), tensor.data() + tensor.size()};
}

// A layer of three channels with a forward and a backward behind it, whose state is nowhere at its defaults.
struct Used {
  Used() {
    bn.weight().setConstant(2);
    bn.bias().setConstant(-1);
    bn.forward(x);
    bn.backward(x, dy);
  }

  Layer bn{3};
  Tensor x = filled(Tensor(2, 3, 4, 5), 1), dy = filled(Tensor(2, 3, 4, 5), 2), y = filled(Tensor(2, 3, 4, 5), 3);
  Eigen::DefaultDevice device;
};

// The call throws Error with this message, and neither the layer nor the output has changed.
template <class Error, class Call>
void check_throws(Used& used, const std::string& message, const Call& call) {
  const auto before = snapshot(used.bn);
  const auto output = elements(used.y);
  CHECK_THROWS_MATCHES(call(), Error, Message("batchnorm: " + message));
  CHECK(snapshot(used.bn) == before);
  CHECK(elements(used.y) == output);
}

}  // namespace

TEST_CASE("the message names the channels expected, the axis, and the shape that came") {
  Layer bn(64);
  const Tensor x(8, 32, 7, 7);
  CHECK_THROWS_MATCHES(bn.forward(x), std::invalid_argument,
                       Message("batchnorm: expected 64 channels on axis 1, got 32 in shape [8, 32, 7, 7]"));
}

TEST_CASE("an input with another number of channels is refused by every call, and nothing changes") {
  Used used;
  auto wrong = filled(Tensor(3, 5, 4, 5), 4), out = wrong;
  const std::string message = "expected 3 channels on axis 1, got 5 in shape [3, 5, 4, 5]";
  auto& bn = used.bn;
  for (const bool training : {true, false}) {
    bn.train(training);
    check_throws<std::invalid_argument>(used, message, [&] { bn.forward(wrong); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.forward(used.device, wrong); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.forward(wrong, out); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.forward(used.device, wrong, out); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.infer(wrong); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.infer(used.device, wrong); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.infer(wrong, out); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.infer(used.device, wrong, out); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.backward(wrong, wrong); });
    check_throws<std::invalid_argument>(used, message, [&] { bn.backward(used.device, wrong, wrong, out); });
  }
  Layer last(BatchNormOptions(3).channel_axis(-1));
  CHECK_THROWS_MATCHES(last.forward(used.x), std::invalid_argument,
                       Message("batchnorm: expected 3 channels on axis 3, got 5 in shape [2, 3, 4, 5]; axis 1 has 3: "
                               "BatchNormOptions(3).channel_axis(1)"));
}

TEST_CASE("an empty input with another number of channels is refused too") {
  Used used;
  const Tensor wrong(0, 5, 4, 5);
  check_throws<std::invalid_argument>(used, "expected 3 channels on axis 1, got 5 in shape [0, 5, 4, 5]",
                                      [&] { used.bn.forward(wrong); });
}

TEST_CASE("where another axis has the channels, the message says how to choose it, and else it does not") {
  const auto check = [](auto layer, auto x, const std::string& message) {
    CHECK_THROWS_MATCHES(layer.infer(x), std::invalid_argument, Message("batchnorm: " + message));
  };
  check(Layer(64), Tensor(2, 28, 28, 64),
        "expected 64 channels on axis 1, got 28 in shape [2, 28, 28, 64]; the last axis has 64: "
        "BatchNormOptions(64).channel_axis(-1)");
  check(Layer(BatchNormOptions::keras(64)), Tensor(2, 64, 28, 28),
        "expected 64 channels on axis 3, got 28 in shape [2, 64, 28, 28]; axis 1 has 64: "
        "BatchNormOptions(64).channel_axis(1)");
  check(BatchNorm<float, 2>(16), Eigen::Tensor<float, 2>(16, 100),
        "expected 16 channels on axis 1, got 100 in shape [16, 100]; axis 0 has 16: "
        "BatchNormOptions(16).channel_axis(0)");
  // The samples' axis, and the one in between, are not where channels lie.
  check(Layer(28), Tensor(28, 3, 28, 5), "expected 28 channels on axis 1, got 3 in shape [28, 3, 28, 5]");
}

TEST_CASE("an output of another shape is refused and never resized") {
  Used used;
  Tensor out(2, 3, 5, 4);
  out.setZero();
  auto& bn = used.bn;
  const std::string y_message = "expected y of the shape of x, [2, 3, 4, 5], got [2, 3, 5, 4]",
                    dx_message = "expected dx of the shape of x, [2, 3, 4, 5], got [2, 3, 5, 4]";
  for (const bool training : {true, false}) {
    bn.train(training);
    check_throws<std::invalid_argument>(used, y_message, [&] { bn.forward(used.x, out); });
    check_throws<std::invalid_argument>(used, y_message, [&] { bn.forward(used.device, used.x, out); });
    check_throws<std::invalid_argument>(used, y_message, [&] { bn.infer(used.x, out); });
    check_throws<std::invalid_argument>(used, dx_message, [&] { bn.backward(used.x, used.dy, out); });
    check_throws<std::invalid_argument>(used, dx_message, [&] { bn.backward(used.device, used.x, used.dy, out); });
  }
  CHECK(out.dimension(2) == 5);
  Tensor never_sized;
  CHECK_THROWS_AS(bn.forward(used.x, never_sized), std::invalid_argument);
  CHECK(never_sized.size() == 0);
}

TEST_CASE("a gradient of another shape than the input is refused") {
  Used used;
  const auto wrong = filled(Tensor(2, 3, 4, 4), 5);
  const std::string message = "expected dy of the shape of x, [2, 3, 4, 5], got [2, 3, 4, 4]";
  check_throws<std::invalid_argument>(used, message, [&] { used.bn.backward(used.x, wrong); });
  check_throws<std::invalid_argument>(used, message, [&] { used.bn.backward(used.device, used.x, wrong, used.y); });
}

TEST_CASE("an input of another shape than the forward's is refused by backward") {
  Used used;
  const auto other = filled(Tensor(4, 3, 5, 2), 6);
  check_throws<std::invalid_argument>(used,
                                      "expected x of the shape of x in its forward, [2, 3, 4, 5], got [4, 3, 5, 2]",
                                      [&] { used.bn.backward(other, other); });
}

TEST_CASE("one value per channel in training is refused unless its policy says otherwise") {
  Used used;
  const auto single = filled(Tensor(1, 3, 1, 1), 7);
  check_throws<std::invalid_argument>(used,
                                      "expected more than one value per channel to take statistics of, got shape [1, "
                                      "3, 1, 1] (see BatchNormOptions::single_value)",
                                      [&] { used.bn.forward(single); });
  used.bn.eval();
  CHECK_NOTHROW(used.bn.forward(single));
  CHECK_NOTHROW(used.bn.train().infer(single));
  for (const auto policy : {SingleValue::skip_update, SingleValue::use_running, SingleValue::allow}) {
    CHECK_NOTHROW(Layer(BatchNormOptions(3).single_value(policy)).forward(single));
  }
}

TEST_CASE("running statistics that are not kept cannot be used for a single value") {
  CHECK_THROWS_MATCHES(
      Layer(BatchNormOptions(3).single_value(SingleValue::use_running).track_running_stats(false)),
      std::invalid_argument,
      Message("batchnorm: expected track_running_stats(true) for single_value(SingleValue::use_running), got false"));
}

TEST_CASE("a channel axis that the rank does not have is refused") {
  CHECK_THROWS_MATCHES(Layer(BatchNormOptions(3).channel_axis(4)), std::invalid_argument,
                       Message("batchnorm: expected a channel_axis in [-4, 3] for rank 4, got 4"));
  CHECK_THROWS_MATCHES(Layer(BatchNormOptions(3).channel_axis(-5)), std::invalid_argument,
                       Message("batchnorm: expected a channel_axis in [-4, 3] for rank 4, got -5"));
  CHECK_NOTHROW(Layer(BatchNormOptions(3).channel_axis(-4)));
  CHECK_NOTHROW(Layer(BatchNormOptions(3).channel_axis(3)));
}

TEST_CASE("backward without a forward is a logic_error, and nothing changes") {
  Used used;
  used.bn = Layer(3);
  check_throws<std::logic_error>(used, "expected a forward before backward, got none",
                                 [&] { used.bn.backward(used.x, used.dy); });
  check_throws<std::logic_error>(used, "expected a forward before backward, got none",
                                 [&] { used.bn.backward(used.device, used.x, used.dy, used.y); });
  used.bn.infer(used.x);  // is no forward
  CHECK_THROWS_AS(used.bn.backward(used.x, used.dy), std::logic_error);
  // std::invalid_argument is a logic_error too, but this is none.
  bool invalid_argument = false;
  try {
    used.bn.backward(used.x, used.dy);
  } catch (const std::invalid_argument&) {
    invalid_argument = true;
  } catch (const std::logic_error&) {
  }
  CHECK_FALSE(invalid_argument);
}

TEST_CASE("memory that a forward in place wrote to is memory like any other once x is in it again") {
  for (const bool training : {true, false}) {
    Used used;
    used.bn.train(training);
    auto buffer = used.x;
    used.bn.forward(buffer, buffer);
    const Tensor expected = Layer(used.bn).backward(used.x, used.dy);
    const auto saved = used.bn.saved_statistics();
    buffer = used.x;  // of the same size: in the same memory
    for (const bool check : {false, true}) {
      used.bn.check_backward(check);
      CHECK(elements<float>(used.bn.backward(buffer, used.dy)) == elements(expected));
      CHECK(elements<float>(used.bn.backward(buffer, used.dy, saved)) == elements(expected));
    }
  }
}

TEST_CASE("memory that overlaps without being the same is refused, in both directions") {
  std::vector<float> memory(400, 1.0F);
  const auto at = [&memory](std::size_t offset) { return Map(memory.data() + offset, 2, 3, 4, 5); };
  Used used;
  auto& bn = used.bn;
  const std::string behind =
                        "expected y to be x itself or memory apart from it, got memory that begins 4 bytes from "
                        "that of x",
                    before =
                        "expected y to be x itself or memory apart from it, got memory that begins -476 bytes "
                        "from that of x";
  check_throws<std::invalid_argument>(used, behind, [&] { bn.forward(at(130), at(131)); });
  check_throws<std::invalid_argument>(used, before, [&] { bn.forward(at(130), at(11)); });
  check_throws<std::invalid_argument>(used, behind, [&] { bn.infer(at(130), at(131)); });
  check_throws<std::invalid_argument>(used, before, [&] { bn.infer(used.device, at(130), at(11)); });
  const std::string dx_x =
                        "expected dx to be x itself or memory apart from it, got memory that begins 4 bytes from "
                        "that of x",
                    dx_dy =
                        "expected dx to be dy itself or memory apart from it, got memory that begins 4 bytes from "
                        "that of dy";
  check_throws<std::invalid_argument>(used, dx_x, [&] { bn.backward(at(130), used.dy, at(131)); });
  check_throws<std::invalid_argument>(used, dx_dy, [&] { bn.backward(used.x, at(130), at(131)); });
  CHECK(std::all_of(memory.begin(), memory.end(), [](float v) { return v == 1; }));
  // Memory that touches is apart.
  CHECK_NOTHROW(bn.forward(at(130), at(250)));
  CHECK_NOTHROW(bn.forward(at(130), at(10)));
  // dx over the one, apart from the other; x and dy may be the same.
  CHECK_NOTHROW(bn.forward(at(130), at(250)));
  CHECK_NOTHROW(bn.backward(at(130), at(250), at(250)));
  CHECK_NOTHROW(bn.backward(at(130), at(250), at(130)));
  CHECK_NOTHROW(bn.backward(at(130), at(130), at(250)));
}

TEST_CASE("a vector of a wrong size is detected at the next call, whichever it is, and nothing has changed") {
  const std::pair<const char*, Layer::Vector& (*)(Layer&)> vectors[] = {
      {"weight", [](Layer& bn) -> Layer::Vector& { return bn.weight(); }},
      {"bias", [](Layer& bn) -> Layer::Vector& { return bn.bias(); }},
      {"running_mean", [](Layer& bn) -> Layer::Vector& { return bn.running_mean(); }},
      {"running_var", [](Layer& bn) -> Layer::Vector& { return bn.running_var(); }},
      {"weight_grad", [](Layer& bn) -> Layer::Vector& { return bn.weight_grad(); }},
      {"bias_grad", [](Layer& bn) -> Layer::Vector& { return bn.bias_grad(); }},
  };
  for (const auto& [name, vector] : vectors) {
    for (const Eigen::Index size : {0, 2, 4}) {
      for (const bool training : {true, false}) {
        Used used;
        used.bn.train(training);
        vector(used.bn) = Layer::Vector(size);
        vector(used.bn).setConstant(1);
        const std::string message = std::string("expected ") + name + " of size 3, got " + std::to_string(size);
        check_throws<std::invalid_argument>(used, message, [&] { used.bn.forward(used.x, used.y); });
        check_throws<std::invalid_argument>(used, message, [&] { used.bn.infer(used.x, used.y); });
        check_throws<std::invalid_argument>(used, message, [&] { used.bn.backward(used.x, used.dy, used.y); });
        vector(used.bn) = Layer::Vector(3);
        vector(used.bn).setConstant(1);
        CHECK_NOTHROW(used.bn.forward(used.x));
        CHECK_NOTHROW(used.bn.backward(used.x, used.dy));
      }
    }
  }
}

TEST_CASE("a vector that an option switches off must stay empty") {
  Used used;
  used.bn = Layer(BatchNormOptions(3).scale(false));
  used.bn.weight() = Layer::Vector(3);
  used.bn.weight().setConstant(1);
  check_throws<std::invalid_argument>(used, "expected weight of size 0, got 3", [&] { used.bn.forward(used.x); });
}

TEST_CASE("saved statistics of another layer or of no forward are refused") {
  Used used;
  Layer other(5);
  const Layer::SavedStatistics none;
  check_throws<std::logic_error>(used, "expected a forward before backward, got none",
                                 [&] { used.bn.backward(used.x, used.dy, none); });
  other.forward(filled(Tensor(2, 5, 4, 5), 8));
  const auto& saved = other.saved_statistics();
  check_throws<std::invalid_argument>(used,
                                      "expected x of the shape of x in its forward, [2, 5, 4, 5], got [2, 3, 4, 5]",
                                      [&] { used.bn.backward(used.x, used.dy, saved); });
  // The same shape, but the channels on another axis and so of another number.
  Layer last(BatchNormOptions(5).channel_axis(-1));
  last.forward(used.x);
  const auto before = snapshot(used.bn);
  CHECK_THROWS_AS(used.bn.backward(used.x, used.dy, last.saved_statistics()), std::invalid_argument);
  CHECK(snapshot(used.bn) == before);
}

namespace {

struct Refusal : std::runtime_error {
  Refusal() : std::runtime_error("a device that refuses") {}
};

// Claims to have threads, and throws out of the call to parallelFor that it is told to, before or after the work.
struct RefusingDevice {
  int numThreads() const { return 4; }
  int currentThreadId() const { return -1; }
  template <class Cost, class Function>
  void parallelFor(Eigen::Index n, const Cost&, const Function& function) const {
    const bool refuses = --calls_left == 0;
    if (refuses && !after_the_work) throw Refusal();
    function(0, n);
    if (refuses) throw Refusal();
  }
  template <class Cost, class Align, class Function>
  void parallelFor(Eigen::Index n, const Cost& cost, const Align&, const Function& function) const {
    parallelFor(n, cost, function);
  }

  mutable int calls_left = 0;
  bool after_the_work = false;
};

}  // namespace

TEST_CASE("an exception out of the device reaches the caller, and the layer is as before") {
  const auto x = filled(Tensor(64, 32, 20, 20), 9), dy = filled(Tensor(64, 32, 20, 20), 10);  // worth several threads
  Tensor y(64, 32, 20, 20);
  for (const bool channels_last : {false, true}) {
    BatchNorm<float, 4> bn(channels_last ? BatchNormOptions(20).channel_axis(-1) : BatchNormOptions(32));
    bn.forward(x);
    bn.backward(x, dy);
    for (const bool training : {true, false}) {
      bn.train(training);
      const auto before = snapshot(bn);
      const std::function<void(Layer&, const RefusingDevice&)> calls[] = {
          [&](Layer& layer, const auto& device) { layer.forward(device, x, y); },
          [&](Layer& layer, const auto& device) { layer.backward(device, x, dy, y); },
          [&](Layer& layer, const auto& device) { layer.infer(device, x, y); }};
      for (const auto& call : calls) {
        for (const bool after_the_work : {true, false}) {
          int refusals = 0;
          for (bool refused = true; refused; ++refusals) {  // at the first use of the device, at the second, ...
            auto copy = bn;
            RefusingDevice device;
            device.calls_left = refusals + 1;
            device.after_the_work = after_the_work;
            refused = false;
            try {
              call(copy, device);
            } catch (const Refusal&) {
              refused = true;
              CHECK(snapshot(copy) == before);
            }
          }
          CHECK(refusals >= 2);  // the last was none
        }
      }
    }
  }
}

TEST_CASE("an exception out of the scalar's own arithmetic reaches the caller, and the layer is as before") {
  using fragile::Fragile;
  using Numbers = Eigen::Tensor<Fragile, 3>;
  Numbers x(4, 3, 5), dy(4, 3, 5), y(4, 3, 5);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<double>(i * i % 17);
    dy.data()[i] = static_cast<double>(i % 7) - 3;
  }
  for (const bool training : {true, false}) {
    Fragile::multiplications_left = 0;  // never
    BatchNorm<Fragile, 3> bn(3);
    bn.forward(x, y);
    bn.backward(x, dy, y);
    bn.train(training);
    const auto before = snapshot(bn);
    const auto throws_until_it_has_enough = [&](const auto& work) {
      long allowed = 1;
      for (;; ++allowed) {
        auto copy = bn;
        Fragile::multiplications_left = allowed;
        try {
          work(copy);
          Fragile::multiplications_left = 0;
          break;
        } catch (const std::overflow_error&) {
          Fragile::multiplications_left = 0;
          if (snapshot(copy) != before) return -allowed;
        }
      }
      return allowed;
    };
    // Wherever among its hundreds of multiplications the call gives up. A negative number is the first that went wrong.
    CHECK(throws_until_it_has_enough([&](auto& copy) { copy.forward(x, y); }) > 60);
    CHECK(throws_until_it_has_enough([&](auto& copy) { copy.backward(x, dy, y); }) > 60);
    CHECK(throws_until_it_has_enough([&](auto& copy) { copy.infer(x, y); }) > 60);
  }
}

TEST_CASE("an expression that throws leaves the layer as before") {
  Used used;
  check_throws<std::overflow_error>(used, "", [&] {
    used.bn.forward(used.x.unaryExpr([](float v) -> float {
      if (v > 2) throw std::overflow_error("batchnorm: ");
      return v;
    }));
  });
}
