// SyncBatchNorm over the processes of MPI against one BatchNorm of the whole batch. Run by mpirun on any number of
// processes. All of them make the same random numbers, and each takes its part. They must stay in step: what may fail
// on some and not on others is a CHECK.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../catch.hpp"

namespace {

// Merges by owners from two processes on.
struct OwnedCommunicator : batchnorm::MpiCommunicator {
  using MpiCommunicator::MpiCommunicator;
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
using batchnorm::MpiCommunicator;
using batchnorm::SyncBatchNorm;
using Index = Eigen::Index;
using Tensor = Eigen::Tensor<double, 3, Eigen::RowMajor>;  // N,C,L
using Mask = Eigen::Tensor<bool, 2, Eigen::RowMajor>;      // N,L
template <class Communicator = MpiCommunicator>
using Layer = SyncBatchNorm<double, 3, Communicator>;

constexpr Index channels = 5;

// MPI runs from the first use to the end of the program.
MPI_Comm world() {
  int begun = 0;
  MPI_Initialized(&begun);
  if (begun == 0) {
    MPI_Init(nullptr, nullptr);
    std::atexit([] { MPI_Finalize(); });
  }
  return MPI_COMM_WORLD;
}

Tensor random_tensor(std::mt19937_64& random, Index samples, Index length, double mean = 0) {
  Tensor result(samples, channels, length);
  for (Index i = 0; i < result.size(); ++i) {
    result.data()[i] = mean + static_cast<double>(random() >> 11) * 0x1p-52 - 1;
  }
  return result;
}

Tensor samples_of(const Tensor& x, Index begin, Index end, Index length = -1) {
  Tensor result(end - begin, channels, length < 0 ? x.dimension(2) : length);
  for (Index n = 0; n < result.dimension(0); ++n) {
    for (Index c = 0; c < channels; ++c) {
      for (Index i = 0; i < result.dimension(2); ++i) result(n, c, i) = x(begin + n, c, i);
    }
  }
  return result;
}

// The part of a rank: of more than one the first has one sample, the last but one none, and the last the rest.
struct Part {
  Index begin, end;
};

Part part_of(int rank, int ranks, Index samples) {
  const auto cut = [&](int r) { return r <= 0 ? 0 : r >= ranks ? samples : r == 1 ? Index(1) : Index(3); };
  const bool empty = ranks > 2 && rank == ranks - 2;
  const Index begin = cut(rank), end = cut(rank + 1);
  if (empty) return {begin, begin};
  if (ranks > 2 && rank == ranks - 1) return {cut(rank - 1), end};  // with those of the empty one
  return {begin, end};
}

double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double result = 0;
  for (Index i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a.data()[i] - b.data()[i]);
    if (!(difference <= result)) result = difference;
  }
  return result;
}

template <class Values>
bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(*a.data()) * static_cast<std::size_t>(a.size())) == 0;
}

template <class Vector>
std::vector<double> values_of(const Vector& vector) {
  return std::vector<double>(vector.data(), vector.data() + vector.size());
}

// Whether the numbers have the same bits on every process.
bool same_everywhere(const std::vector<double>& mine) {
  int ranks = 0;
  MPI_Comm_size(world(), &ranks);
  std::vector<double> all(mine.size() * static_cast<std::size_t>(ranks));
  const int count = static_cast<int>(mine.size());
  MPI_Allgather(mine.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, world());
  for (std::size_t r = 0; r < static_cast<std::size_t>(ranks); ++r) {
    if (std::memcmp(all.data() + r * mine.size(), mine.data(), mine.size() * sizeof(double)) != 0) return false;
  }
  return true;
}

template <class F>
std::string thrown_by(const F& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

template <class L>
void set_parameters(L& layer) {
  layer.set_weight({0.5, -1, 2, 0, 1}).set_bias({1, 2, 3, 0, -1});
}

struct Outcome {
  Tensor y, dx, z;
  std::vector<double> mean, var, weight_grad, bias_grad;
};

template <class Communicator = MpiCommunicator, class Options>
Outcome train(const Options& options, const Communicator& communicator, const Tensor& x, const Tensor& dy,
              bool sum_grads = true) {
  Layer<Communicator> layer(options, communicator);
  set_parameters(layer);
  layer.sum_parameter_grads(sum_grads);
  Outcome result;
  result.y = layer.forward(x);
  result.dx = layer.backward(x, dy);
  result.z = layer.infer(x);
  result.mean = values_of(layer.running_mean());
  result.var = values_of(layer.running_var());
  result.weight_grad = values_of(layer.weight_grad());
  result.bias_grad = values_of(layer.bias_grad());
  return result;
}

bool same_bits(const Outcome& a, const Outcome& b) {
  return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.z, b.z) && same_bits(a.mean, b.mean) &&
         same_bits(a.var, b.var) && same_bits(a.weight_grad, b.weight_grad) && same_bits(a.bias_grad, b.bias_grad);
}

}  // namespace

// A launcher of another implementation would start as many programs of one process each.
TEST_CASE("as many processes run as ctest has asked for") {
  const char* const expected = std::getenv("BATCHNORM_TEST_PROCESSES");
  if (expected != nullptr) CHECK(std::to_string(MpiCommunicator(world()).size()) == expected);
}

TEST_CASE("numbers of all processes arrive in the order of the ranks, whatever their count") {
  const MpiCommunicator communicator(world());
  const int own = communicator.rank();
  const auto ranks = static_cast<std::size_t>(communicator.size());
  for (const std::size_t n : std::vector<std::size_t>{0, 1, 2, 1000, 100000}) {
    INFO(n << " numbers on rank " << own);
    std::vector<double> mine(n), all(n * ranks), send(n * ranks), receive(n * ranks), gathered, exchanged;
    const auto number = [](std::size_t from, std::size_t to, std::size_t i) {
      return static_cast<double>(from) + 100 * static_cast<double>(to) + 1e4 * static_cast<double>(i);
    };
    const auto self = static_cast<std::size_t>(own);
    for (std::size_t i = 0; i < n; ++i) mine[i] = number(self, 99, i);
    for (std::size_t r = 0; r < ranks; ++r) {
      for (std::size_t i = 0; i < n; ++i) {
        send[r * n + i] = number(self, r, i);
        gathered.push_back(number(r, 99, i));
        exchanged.push_back(number(r, self, i));
      }
    }
    communicator.all_gather(mine.data(), n, all.data());
    communicator.all_to_all(send.data(), n, receive.data());
    CHECK(all == gathered);
    CHECK(receive == exchanged);
  }
}

TEST_CASE("an error of MPI is an exception with MPI's words, whatever handler the program has set") {
  const MpiCommunicator communicator(world());
  MPI_Errhandler handler;
  MPI_Comm_get_errhandler(world(), &handler);
  CHECK(handler == MPI_ERRORS_ARE_FATAL);
  const double mine = 1;
  // Where there is to be received into is not for "in place" to say.
  const std::string error =
      thrown_by([&] { communicator.all_gather(&mine, 1, reinterpret_cast<double*>(MPI_IN_PLACE)); });
  INFO(error);
  CHECK(contains(error, "MPI_Allgather failed with error "));
  CHECK((contains(error, "invalid argument") || contains(error, "Invalid buffer")));
  std::vector<double> all(static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(&mine, 1, all.data());  // and the next call works
  CHECK(all == std::vector<double>(all.size(), 1.0));
}

TEST_CASE("what cannot be a communicator, or be counted, is refused") {
  world();
  CHECK_THROWS_AS(MpiCommunicator(MPI_COMM_NULL), std::invalid_argument);
  const MpiCommunicator communicator(world());
  const std::size_t many = static_cast<std::size_t>(std::numeric_limits<int>::max()) + 1;
  CHECK_THROWS_AS(communicator.all_gather(nullptr, many, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(communicator.all_to_all(nullptr, many, nullptr), std::invalid_argument);
  if (communicator.size() > 1) {
    MPI_Comm half, between;
    const int side = communicator.rank() == 0 ? 0 : 1;
    MPI_Comm_split(world(), side, 0, &half);
    MPI_Intercomm_create(half, 0, world(), 1 - side, 7, &between);
    CHECK_THROWS_AS(MpiCommunicator(between), std::invalid_argument);
    MPI_Comm_free(&between);
    MPI_Comm_free(&half);
  }
}

TEST_CASE("the program's own messages are not taken for the layer's") {
  const MpiCommunicator communicator(world());
  const int ranks = communicator.size(), next = (communicator.rank() + 1) % ranks;
  double received = -1;
  const double sent = 42;
  MPI_Request request;
  MPI_Irecv(&received, 1, MPI_DOUBLE, MPI_ANY_SOURCE, MPI_ANY_TAG, world(), &request);
  std::mt19937_64 random(1);
  const Tensor x = random_tensor(random, 3, 4);
  Layer<> layer(BatchNormOptions(channels), communicator);
  for (int i = 0; i < 3; ++i) layer.backward(x, layer.forward(x));
  CHECK(received == -1);
  MPI_Barrier(world());  // nobody has sent it before all have looked
  MPI_Send(&sent, 1, MPI_DOUBLE, next, 0, world());
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  CHECK(received == 42);
}

TEST_CASE("processes with uneven and empty parts give what one layer gives of the whole, at any mean") {
  const MpiCommunicator communicator(world());
  const Part part = part_of(communicator.rank(), communicator.size(), 9);
  std::mt19937_64 random(2);
  for (const double mean : {0.0, 1e6}) {
    const Tensor x = random_tensor(random, 9, 4, mean), dy = random_tensor(random, 9, 4, 0.5);
    for (const bool activated : {false, true}) {
      INFO("mean " << mean << (activated ? ", relu" : "") << ", rank " << communicator.rank() << " of "
                   << communicator.size());
      const BatchNormOptions plain(channels);
      const auto options = plain.activation(activated ? Activation::relu : Activation::none);
      BatchNorm<double, 3> whole(options);
      set_parameters(whole);
      const Tensor y = whole.forward(x), dx = whole.backward(x, dy), z = whole.infer(x);
      const Tensor mine = samples_of(x, part.begin, part.end), gradient = samples_of(dy, part.begin, part.end);
      const Outcome parts = train(options, communicator, mine, gradient);
      // The result of a mean of 1e6 has six digits fewer than the x that it comes from.
      const double tolerance = mean > 0 ? 1e-9 : 1e-13;
      CHECK(largest_difference(parts.y, samples_of(y, part.begin, part.end)) < tolerance);
      CHECK(largest_difference(parts.dx, samples_of(dx, part.begin, part.end)) < tolerance);
      CHECK(largest_difference(parts.z, samples_of(z, part.begin, part.end)) < tolerance);
      for (std::size_t c = 0; c < channels; ++c) {
        const auto i = static_cast<Index>(c);
        CHECK(std::abs(parts.mean[c] - whole.running_mean()(i)) <= 1e-15 * std::abs(parts.mean[c]) + 1e-16);
        CHECK(std::abs(parts.var[c] - whole.running_var()(i)) <= 1e-14 * parts.var[c]);
        CHECK(std::abs(parts.weight_grad[c] - whole.weight_grad()(i)) < 10 * tolerance);
        CHECK(std::abs(parts.bias_grad[c] - whole.bias_grad()(i)) < 10 * tolerance);
      }
      // The same bits on every process, in a second run, and merged by owners.
      for (const auto* values : {&parts.mean, &parts.var, &parts.weight_grad, &parts.bias_grad}) {
        CHECK(same_everywhere(*values));
      }
      CHECK(same_bits(train(options, communicator, mine, gradient), parts));
      CHECK(same_bits(train(options, OwnedCommunicator(world()), mine, gradient), parts));
    }
  }
}

TEST_CASE("gradients of the parameters are each process's own, which add up to those of the whole, unless asked") {
  const MpiCommunicator communicator(world());
  const Part part = part_of(communicator.rank(), communicator.size(), 9);
  std::mt19937_64 random(3);
  const Tensor x = random_tensor(random, 9, 4), dy = random_tensor(random, 9, 4);
  BatchNorm<double, 3> whole(channels);
  set_parameters(whole);
  whole.forward(x);
  whole.backward(x, dy);
  const Outcome own = train(BatchNormOptions(channels), communicator, samples_of(x, part.begin, part.end),
                            samples_of(dy, part.begin, part.end), false);
  std::vector<double> sum(channels);
  MPI_Allreduce(own.weight_grad.data(), sum.data(), channels, MPI_DOUBLE, MPI_SUM, world());
  for (Index c = 0; c < channels; ++c) {
    CHECK(std::abs(sum[static_cast<std::size_t>(c)] - whole.weight_grad()(c)) < 1e-12);
  }
  if (part.begin == part.end) CHECK(own.weight_grad == std::vector<double>(channels, 0.0));
}

TEST_CASE("processes may have parts of different lengths, masks and weights") {
  const MpiCommunicator communicator(world());
  const int ranks = communicator.size();
  const Index samples = 2 * ranks, longest = 4 + ranks, begin = 2 * communicator.rank();
  const auto length_on = [&](Index rank) { return longest - rank; };
  std::mt19937_64 random(4);
  const Tensor x = random_tensor(random, samples, longest), dy = random_tensor(random, samples, longest);
  // In the whole the positions that a shorter part does not have are masked, and beside them some that it has.
  Mask mask(samples, longest);
  std::vector<double> weight(static_cast<std::size_t>(samples));
  for (Index n = 0; n < samples; ++n) {
    weight[static_cast<std::size_t>(n)] = static_cast<double>(1 + random() % 3);
    for (Index i = 0; i < longest; ++i) mask(n, i) = i < length_on(n / 2) && random() % 4 != 0;
  }
  Mask own_mask(2, length_on(communicator.rank()));
  for (Index n = 0; n < 2; ++n) {
    for (Index i = 0; i < own_mask.dimension(1); ++i) own_mask(n, i) = mask(begin + n, i);
  }
  const std::vector<double> own_weight(weight.begin() + begin, weight.begin() + begin + 2);
  const auto own = [&](const Tensor& of) { return samples_of(of, begin, begin + 2, length_on(communicator.rank())); };

  BatchNorm<double, 3> whole(channels);
  Layer<> layer(BatchNormOptions(channels), communicator);
  const Tensor y = whole.forward(x, batchnorm::mask(mask)), dx = whole.backward(x, dy, batchnorm::mask(mask));
  const Tensor mine = layer.forward(own(x), batchnorm::mask(own_mask));
  const Tensor gradient = layer.backward(own(x), own(dy), batchnorm::mask(own_mask));
  CHECK(largest_difference(mine, own(y)) < 1e-13);
  CHECK(largest_difference(gradient, own(dx)) < 1e-13);

  const Tensor first = samples_of(x, 0, samples, 5), second = samples_of(dy, 0, samples, 5);
  const Tensor weighted = whole.forward(first, batchnorm::sample_weight(weight));
  const Tensor weighted_dx = whole.backward(first, second, batchnorm::sample_weight(weight));
  const auto cut = [&](const Tensor& of) { return samples_of(of, begin, begin + 2); };
  CHECK(largest_difference(layer.forward(cut(first), batchnorm::sample_weight(own_weight)), cut(weighted)) < 1e-13);
  CHECK(largest_difference(layer.backward(cut(first), cut(second), batchnorm::sample_weight(own_weight)),
                           cut(weighted_dx)) < 1e-13);
  CHECK(same_everywhere(values_of(layer.running_var())));
}

TEST_CASE("a float layer over processes is as one of the whole") {
  const MpiCommunicator communicator(world());
  const int ranks = communicator.size();
  std::srand(5);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(4 * ranks, 7).array() + 100.0f;
  const Eigen::MatrixXf dy = Eigen::MatrixXf::Random(4 * ranks, 7);
  BatchNorm<float, 2> whole(7);
  const Eigen::MatrixXf y = whole.forward(x), dx = whole.backward(x, dy);
  SyncBatchNorm<float, 2, MpiCommunicator> layer(BatchNormOptions(7), communicator);
  const Index begin = 4 * communicator.rank();
  const Eigen::MatrixXf mine = layer.forward(x.middleRows(begin, 4));
  const Eigen::MatrixXf gradient = layer.backward(x.middleRows(begin, 4), dy.middleRows(begin, 4));
  CHECK((mine - y.middleRows(begin, 4)).cwiseAbs().maxCoeff() < 1e-6f);  // a float's last digit at 2
  CHECK((gradient - dx.middleRows(begin, 4)).cwiseAbs().maxCoeff() < 1e-6f);
}

TEST_CASE("a process whose input is wrong makes all throw, and the next call works") {
  const MpiCommunicator communicator(world());
  const int bad = communicator.size() - 1;
  std::mt19937_64 random(6);
  const Tensor x = random_tensor(random, 3, 4), wrong(3, channels + 1, 4);
  Layer<> layer(BatchNormOptions(channels), communicator);
  const bool is_bad = communicator.rank() == bad;
  const std::string on = "an error on rank " + std::to_string(bad);
  for (int i = 0; i < 2; ++i) {
    CHECK(contains(thrown_by([&] { layer.forward(is_bad ? wrong : x); }),
                   is_bad ? "expected 5 channels on axis 1, got 6" : on));
    CHECK(thrown_by([&] { layer.forward(x); }) == "nothing");
    CHECK(contains(thrown_by([&] { layer.backward(x, is_bad ? wrong : x); }),
                   is_bad ? "expected dy of the shape of x" : on));
    CHECK(thrown_by([&] { layer.backward(x, x); }) == "nothing");
  }
  CHECK(layer.num_batches_tracked() == 2);
}

TEST_CASE("processes that disagree, or of which one cannot make its layer, throw in the constructor") {
  const MpiCommunicator communicator(world());
  if (communicator.size() == 1) return;
  const int odd = communicator.size() - 1;
  const bool is_odd = communicator.rank() == odd;
  const std::string name = std::to_string(odd);
  CHECK(contains(thrown_by([&] { Layer<>(BatchNormOptions(is_odd ? 6 : 5), communicator); }),
                 "expected as many channels on every process, got 5 on rank 0 and 6 on rank " + name));
  CHECK(contains(thrown_by([&] { Layer<>(BatchNormOptions(5).momentum(is_odd ? 0.2 : 0.1), communicator); }),
                 "expected the same options on every process, got others on rank " + name));
  CHECK(contains(thrown_by([&] { Layer<>(BatchNormOptions(5).channel_axis(is_odd ? 9 : 1), communicator); }),
                 is_odd ? "channel_axis" : "an error on rank " + name));
  CHECK(thrown_by([&] { Layer<>(BatchNormOptions(5), communicator); }) == "nothing");
}

TEST_CASE("parts of the processes share batches of their own") {
  int rank = 0, ranks = 0;
  MPI_Comm_rank(world(), &rank);
  MPI_Comm_size(world(), &ranks);
  // Even and odd ranks, the even ones in reverse order; of three or more, the last takes no part.
  const bool absent = ranks > 2 && rank == ranks - 1;
  MPI_Comm half;
  MPI_Comm_split(world(), absent ? MPI_UNDEFINED : rank % 2, rank % 2 == 0 ? -rank : rank, &half);
  if (absent) {
    CHECK_THROWS_AS(MpiCommunicator(half), std::invalid_argument);
    return;
  }
  const MpiCommunicator communicator(half);
  MPI_Comm_free(&half);
  std::mt19937_64 random(static_cast<unsigned>(7 + rank % 2));
  const Index samples = 3 * communicator.size(), begin = 3 * communicator.rank();
  const Tensor x = random_tensor(random, samples, 4), dy = random_tensor(random, samples, 4);
  BatchNorm<double, 3> whole(channels);
  const Tensor y = whole.forward(x), dx = whole.backward(x, dy);
  Layer<> layer(BatchNormOptions(channels), communicator);
  // Odd ranks have more steps than even ones, who do not wait for them.
  for (int step = 0; step < 1 + rank % 2; ++step) {
    CHECK(largest_difference(layer.forward(samples_of(x, begin, begin + 3)), samples_of(y, begin, begin + 3)) < 1e-13);
    CHECK(largest_difference(layer.backward(samples_of(x, begin, begin + 3), samples_of(dy, begin, begin + 3)),
                             samples_of(dx, begin, begin + 3)) < 1e-13);
  }
}

TEST_CASE("a layer in evaluation exchanges nothing") {
  const MpiCommunicator communicator(world());
  std::mt19937_64 random(8);
  const Tensor x = random_tensor(random, 3, 4);
  Layer<> layer(BatchNormOptions(channels), communicator);
  layer.forward(x);
  layer.eval();
  // Each process as often as its rank says: an exchange would wait for the others.
  for (int i = 0; i <= communicator.rank(); ++i) {
    layer.forward(x);
    layer.backward(x, x);
    layer.infer(x);
  }
}
