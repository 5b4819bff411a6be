// SyncBatchNorm over threads of one process: parts of a batch give what one BatchNorm gives for the whole.

#define EIGEN_USE_THREADS
#include <batchnorm/sync_batch_norm.hpp>

#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fused_kernels.hpp"

namespace {

// The same communicator with another limit, so that few ranks merge by owners.
struct OwnedCommunicator : batchnorm::ThreadCommunicator {
  explicit OwnedCommunicator(const batchnorm::ThreadCommunicator& other) : ThreadCommunicator(other) {}
};

}  // namespace

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
template <>
inline constexpr int most_ranks_gathered<OwnedCommunicator> = 1;
}  // namespace detail
BATCHNORM_NAMESPACE_END

namespace {

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::Statistics;
using batchnorm::SyncBatchNorm;
using batchnorm::ThreadCommunicator;
using batchnorm::ThreadGroup;
using Index = Eigen::Index;
using Tensor = Eigen::Tensor<double, 3, Eigen::RowMajor>;  // N,C,L
template <class Communicator = ThreadCommunicator>
using Layer = SyncBatchNorm<double, 3, Communicator>;

Tensor random_tensor(Random& random, Index n, Index channels, Index length, double mean = 0) {
  Tensor result(n, channels, length);
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = mean + random.uniform(-1, 1);
  return result;
}

Tensor samples_of(const Tensor& x, Index begin, Index end) {
  Tensor result(end - begin, x.dimension(1), x.dimension(2));
  std::copy_n(x.data() + begin * x.dimension(1) * x.dimension(2), result.size(), result.data());
  return result;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.size() == b.size());
  double result = 0;
  for (Index i = 0; i < a.size(); ++i) result = std::max(result, std::abs(a.data()[i] - b.data()[i]));
  return result;
}

template <class Values>
bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(*a.data()) * static_cast<std::size_t>(a.size())) == 0;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Calls f(rank, communicator) on a thread for each rank, and returns what each threw.
template <class F>
std::vector<std::string> on_ranks(int ranks, const F& f) {
  ThreadGroup group(ranks);
  std::vector<std::string> thrown(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        f(r, group.communicator(r));
      } catch (const std::exception& error) {
        thrown[static_cast<std::size_t>(r)] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return thrown;
}

// Where the part of a rank begins: the first has one sample, the last but one none, the last the rest.
std::vector<Index> cuts(int ranks, Index samples) {
  std::vector<Index> result(static_cast<std::size_t>(ranks) + 1, samples);
  result[0] = 0;
  for (int r = 1; r < ranks; ++r) result[static_cast<std::size_t>(r)] = std::min<Index>(samples, r == 1 ? 1 : 3);
  return result;
}

// What the ranks leave.
struct Outcome {
  Tensor y, dx, z;
  std::vector<double> mean, var, weight_grad;
};

template <class Communicator = ThreadCommunicator, class Options>
std::vector<Outcome> run(int ranks, const Options& options, const Tensor& x, const Tensor& dy, bool sum_grads = false) {
  const std::vector<Index> cut = cuts(ranks, x.dimension(0));
  std::vector<Outcome> result(static_cast<std::size_t>(ranks));
  const auto thrown = on_ranks(ranks, [&](int rank, const ThreadCommunicator& communicator) {
    const auto r = static_cast<std::size_t>(rank);
    Layer<Communicator> layer(options, Communicator(communicator));
    layer.set_weight({0.5, -1, 2, 0}).set_bias({1, 2, 3, 0}).sum_parameter_grads(sum_grads);
    const Tensor part = samples_of(x, cut[r], cut[r + 1]), gradient = samples_of(dy, cut[r], cut[r + 1]);
    Outcome& mine = result[r];
    mine.y = layer.forward(part);
    mine.dx = layer.backward(part, gradient);
    mine.z = layer.infer(part);
    const auto values = [](const auto& vector) {
      return std::vector<double>(vector.data(), vector.data() + vector.size());
    };
    mine.mean = values(layer.running_mean());
    mine.var = values(layer.running_var());
    mine.weight_grad = values(layer.weight_grad());
  });
  for (const auto& message : thrown) CHECK(message.empty());
  return result;
}

void check_against_whole(const std::vector<Outcome>& parts, const BatchNormOptions& options, const Tensor& x,
                         const Tensor& dy, bool sum_grads, double scale) {
  BatchNorm<double, 3> whole(options.activation(options.activation()));
  whole.set_weight({0.5, -1, 2, 0}).set_bias({1, 2, 3, 0});
  const Tensor y = whole.forward(x), dx = whole.backward(x, dy), z = whole.infer(x);
  const std::vector<Index> cut = cuts(static_cast<int>(parts.size()), x.dimension(0));
  std::vector<double> weight_grad(4, 0);
  for (std::size_t r = 0; r < parts.size(); ++r) {
    CHECK(largest_difference(parts[r].y, samples_of(y, cut[r], cut[r + 1])) < 1e-13 * scale);
    CHECK(largest_difference(parts[r].dx, samples_of(dx, cut[r], cut[r + 1])) < 1e-13 * scale);
    CHECK(largest_difference(parts[r].z, samples_of(z, cut[r], cut[r + 1])) < 1e-13 * scale);
    CHECK(parts[r].mean == parts[0].mean);  // the same bits on every rank
    CHECK(parts[r].var == parts[0].var);
    for (std::size_t c = 0; c < 4; ++c) {
      CHECK(std::abs(parts[r].mean[c] - whole.running_mean()(static_cast<Index>(c))) <=
            1e-15 * std::abs(parts[r].mean[c]) + 1e-16);
      CHECK(std::abs(parts[r].var[c] - whole.running_var()(static_cast<Index>(c))) <= 1e-14 * parts[r].var[c]);
      weight_grad[c] += parts[r].weight_grad[c] / (sum_grads ? static_cast<double>(parts.size()) : 1.0);
    }
    if (sum_grads) CHECK(parts[r].weight_grad == parts[0].weight_grad);
  }
  for (std::size_t c = 0; c < 4; ++c) {
    CHECK(std::abs(weight_grad[c] - whole.weight_grad()(static_cast<Index>(c))) < 1e-12 * scale);
  }
}

}  // namespace

TEST_CASE("parts of a batch give what the whole gives, uneven and empty ones too, at any mean") {
  for (const double mean : {0.0, 1e6}) {
    Random random(1);
    const Tensor x = random_tensor(random, 9, 4, 5, mean), dy = random_tensor(random, 9, 4, 5, 0.5);
    for (const int ranks : {1, 2, 3, 4, 5}) {
      for (const bool activated : {false, true}) {
        for (const bool sum_grads : {false, true}) {
          INFO(ranks << " ranks, mean " << mean << (activated ? ", relu" : "") << (sum_grads ? ", summed" : ""));
          const BatchNormOptions options(4);
          const auto relu = options.activation(Activation::relu);
          // At a mean of 1e6 a double has seven digits fewer below the point.
          const double scale = mean == 0 ? 1 : 1e4;
          if (activated) {
            check_against_whole(run(ranks, relu, x, dy, sum_grads), relu, x, dy, sum_grads, scale);
          } else {
            check_against_whole(run(ranks, options, x, dy, sum_grads), options, x, dy, sum_grads, scale);
          }
        }
      }
    }
  }
}

TEST_CASE("channels merged by their owners have the bits of those that everyone merges") {
  Random random(2);
  const Tensor x = random_tensor(random, 9, 4, 5, 10), dy = random_tensor(random, 9, 4, 5, 0.5);
  for (const int ranks : {2, 3, 5}) {  // channels that the ranks share evenly, unevenly, and fewer than ranks
    INFO(ranks << " ranks");
    const auto gathered = run(ranks, BatchNormOptions(4), x, dy, true);
    const auto owned = run<OwnedCommunicator>(ranks, BatchNormOptions(4), x, dy, true);
    for (std::size_t r = 0; r < gathered.size(); ++r) {
      CHECK(same_bits(owned[r].y, gathered[r].y));
      CHECK(same_bits(owned[r].dx, gathered[r].dx));
      CHECK(owned[r].var == gathered[r].var);
      CHECK(owned[r].weight_grad == gathered[r].weight_grad);
    }
  }
}

TEST_CASE("processes may have parts of different lengths, masks, weights and parameters of their own") {
  Random random(3);
  const Tensor first = random_tensor(random, 2, 4, 5), second = random_tensor(random, 2, 4, 5);
  // The whole has both parts, and the second is masked beyond length 3, as if it were shorter.
  Tensor whole(4, 4, 5), dy = random_tensor(random, 4, 4, 5);
  std::copy_n(first.data(), first.size(), whole.data());
  std::copy_n(second.data(), second.size(), whole.data() + first.size());
  Eigen::Tensor<bool, 2, Eigen::RowMajor> mask(4, 5);
  for (Index n = 0; n < 4; ++n) {
    for (Index i = 0; i < 5; ++i) mask(n, i) = n < 2 || i < 3;
  }
  Eigen::Tensor<double, 2, Eigen::RowMajor> weight(4, 4), bias(4, 4);
  for (Index i = 0; i < 16; ++i) weight.data()[i] = random.uniform(-1, 1), bias.data()[i] = random.uniform(-1, 1);
  BatchNorm<double, 3> alone(4);
  const Tensor y = alone.forward(whole, batchnorm::mask(mask), batchnorm::affine(weight, bias));
  const Tensor dx = alone.backward(whole, dy, batchnorm::mask(mask), batchnorm::affine(weight, bias));
  const auto thrown = on_ranks(2, [&](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    const Index begin = 2 * rank, length = rank == 0 ? 5 : 3;
    const auto cut = [&](const Tensor& of) {
      Tensor part(2, 4, length);
      for (Index n = 0; n < 2; ++n) {
        for (Index c = 0; c < 4; ++c) {
          for (Index i = 0; i < length; ++i) part(n, c, i) = of(begin + n, c, i);
        }
      }
      return part;
    };
    const auto rows = [&](const auto& of) {
      Eigen::MatrixXd part(2, 4);
      for (Index n = 0; n < 2; ++n) {
        for (Index c = 0; c < 4; ++c) part(n, c) = of(begin + n, c);
      }
      return part;
    };
    const Eigen::MatrixXd w = rows(weight), b = rows(bias);
    const std::vector<double> ones(2, 1.0);
    const Tensor mine = layer.forward(cut(whole), batchnorm::sample_weight(ones), batchnorm::affine(w, b));
    const Tensor gradient =
        layer.backward(cut(whole), cut(dy), batchnorm::sample_weight(ones), batchnorm::affine(w, b));
    if (largest_difference(mine, cut(y)) > 1e-13 || largest_difference(gradient, cut(dx)) > 1e-13) {
      throw std::runtime_error("differs");
    }
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("a frozen layer, and one in evaluation, exchange nothing") {
  Random random(4);
  const Tensor x = random_tensor(random, 3, 4, 5), dy = random_tensor(random, 3, 4, 5);
  const auto thrown = on_ranks(2, [&](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    if (rank == 1) return;  // an exchange would wait for this one
    layer.normalize_with(Statistics::running).update_running_stats(false).forward(x);
    layer.backward(x, dy);
    layer.follow_mode().eval().forward(x);
    layer.backward(x, dy);
    layer.infer(x);
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("mixed statistics weigh the samples of all processes") {
  Random random(5);
  const Tensor x = random_tensor(random, 7, 4, 5), dy = random_tensor(random, 7, 4, 5);
  BatchNorm<double, 3> whole(4);
  whole.normalize_with(Statistics::mixed(5));
  const Tensor y = whole.forward(x), dx = whole.backward(x, dy);
  const auto thrown = on_ranks(3, [&](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    layer.normalize_with(Statistics::mixed(5));
    const auto cut = cuts(3, 7);
    const Index begin = cut[static_cast<std::size_t>(rank)], end = cut[static_cast<std::size_t>(rank) + 1];
    const Tensor part = samples_of(x, begin, end);
    const Tensor mine = layer.forward(part), gradient = layer.backward(part, samples_of(dy, begin, end));
    if (largest_difference(mine, samples_of(y, begin, end)) > 1e-13) throw std::runtime_error("y differs");
    if (largest_difference(gradient, samples_of(dx, begin, end)) > 1e-13) throw std::runtime_error("dx differs");
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("a process whose input is wrong makes all throw, and the next call works") {
  Random random(6);
  const Tensor x = random_tensor(random, 3, 4, 5), wrong = random_tensor(random, 3, 5, 5);
  for (const int ranks : {2, 4}) {
    const auto thrown = on_ranks(ranks, [&](int rank, const ThreadCommunicator& communicator) {
      Layer<> layer(BatchNormOptions(4), communicator);
      std::string all;
      const auto attempt = [&](const auto& call) {
        try {
          call();
          all += "nothing; ";
        } catch (const std::exception& error) {
          all += std::string(error.what()) + "; ";
        }
      };
      attempt([&] { layer.forward(rank == 1 ? wrong : x); });
      attempt([&] { layer.forward(x); });
      attempt([&] { layer.backward(x, rank == 1 ? wrong : x); });
      attempt([&] { layer.backward(x, x); });
      throw std::runtime_error(all);
    });
    for (int r = 0; r < ranks; ++r) {
      const std::string& text = thrown[static_cast<std::size_t>(r)];
      INFO(text);
      const std::string expected = r == 1 ? "expected 4 channels on axis 1, got 5" : "an error on rank 1";
      CHECK(contains(text, expected));
      CHECK(contains(text, r == 1 ? "nothing; batchnorm: expected dy of the shape of x"
                                  : "nothing; batchnorm: expected a forward"));
      CHECK(contains(text.substr(text.size() - 9), "nothing; "));
    }
  }
}

TEST_CASE("processes that disagree, or of which one cannot make its layer, throw in the constructor") {
  const auto channels = on_ranks(3, [](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(rank == 2 ? 5 : 4), communicator);
  });
  for (const auto& message : channels) {
    CHECK(contains(message, "expected as many channels on every process, got 4 on rank 0 and 5 on rank 2"));
  }
  const auto options = on_ranks(3, [](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4).momentum(rank == 1 ? 0.2 : 0.1), communicator);
  });
  for (const auto& message : options) CHECK(contains(message, "others on rank 1"));
  const auto failed = on_ranks(3, [](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4).channel_axis(rank == 1 ? 7 : 1), communicator);
  });
  CHECK(contains(failed[0], "an error on rank 1"));
  CHECK(contains(failed[1], "channel_axis"));
  CHECK(contains(failed[2], "an error on rank 1"));
}

TEST_CASE("one value per channel is asked of the whole batch") {
  Random random(7);
  const Tensor x = random_tensor(random, 1, 4, 1);
  const auto two = on_ranks(2, [&](int, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    layer.forward(x);  // one here and one there
  });
  for (const auto& message : two) CHECK(message.empty());
  const auto one = on_ranks(2, [&](int rank, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    layer.forward(rank == 0 ? x : Tensor(0, 4, 1));
  });
  for (const auto& message : one) CHECK(contains(message, "more than one value per channel"));
  const auto none = on_ranks(2, [&](int, const ThreadCommunicator& communicator) {
    Layer<> layer(BatchNormOptions(4), communicator);
    layer.forward(Tensor(0, 4, 1));
    if (layer.num_batches_tracked() != 0) throw std::runtime_error("an empty batch was counted");
  });
  for (const auto& message : none) CHECK(message.empty());
}

TEST_CASE("infer of a synchronized layer is by running statistics or an error") {
  Random random(8);
  const Tensor x = random_tensor(random, 3, 4, 5);
  Layer<batchnorm::SingleProcess> layer(BatchNormOptions(4).track_running_stats(false), {});
  CHECK_THROWS_AS(layer.infer(x), std::logic_error);
  Layer<batchnorm::SingleProcess> other(4, {});
  other.normalize_with(Statistics::batch);
  CHECK_THROWS_AS(other.infer(x), std::logic_error);
  other.follow_mode().infer(x);
}

TEST_CASE("a copy of a synchronized layer is one of its own") {
  Random random(9);
  const Tensor x = random_tensor(random, 6, 4, 5), dy = random_tensor(random, 6, 4, 5);
  const auto thrown = on_ranks(2, [&](int rank, const ThreadCommunicator& communicator) {
    std::vector<Layer<>> layers;
    layers.emplace_back(BatchNormOptions(4), communicator);
    layers.push_back(layers.front());
    layers.push_back(layers.front());
    const Tensor part = samples_of(x, 3 * rank, 3 * rank + 3);
    const Tensor y = layers[0].forward(part), z = layers[2].forward(part);
    if (!same_bits(y, z)) throw std::runtime_error("differs");
    if (layers[1].num_batches_tracked() != 0) throw std::runtime_error("shared");
  });
  for (const auto& message : thrown) CHECK(message.empty());
}
