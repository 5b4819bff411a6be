// What is measured: a problem (tensors in memory) and the contenders that solve it (one callable each).

#ifndef BATCHNORM_BENCHMARKS_CONTENDERS_HPP
#define BATCHNORM_BENCHMARKS_CONTENDERS_HPP

#include <batchnorm/batchnorm.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bench {

using Index = Eigen::Index;

enum class Layout { nchw, nhwc, nc };
enum class Pass { forward, infer, backward };

struct Shape {
  Index samples;
  Index channels;
  Index height;  // 0 x 0: a tensor of rank 2, samples x channels
  Index width;

  bool rank_2() const { return height == 0; }
  Index inner() const { return rank_2() ? 1 : height * width; }
  Index size() const { return samples * channels * inner(); }
};

// Memory that starts on a page, so that alignment is the same for everyone and in every run: of its own, or another's.
class Buffer {
 public:
  explicit Buffer(Index size);
  Buffer(float* lent, Index size) : data_(lent), size_(size), owned_(false) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  float* data() const { return data_; }
  Index size() const { return size_; }

 private:
  float* data_;
  Index size_;
  bool owned_ = true;
};

// Knuth's MMIX generator: the same numbers everywhere.
class Random {
 public:
  float uniform() {  // [-1, 1)
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<std::int64_t>(state_) >> 40) * 0x1p-23f;
  }

 private:
  std::uint64_t state_ = 1;
};

// The tensors of one shape and layout, shared by all contenders: same addresses, same pages. RowMajor, as everyone's.
struct Problem {
  Problem(Shape shape, Layout layout);
  // In memory that has been filled before, `out` excepted.
  Problem(Shape shape, Layout layout, float* x, float* dy, float* out);

  Shape shape;
  Layout layout;
  double epsilon = 1e-5;
  double momentum = 0.1;
  Buffer x, dy;
  Buffer out;  // y or dx
  std::vector<float> weight, bias, running_mean, running_var;

 private:
  void set_channels(Random& random);
};

// The threads a contender may use: `count`, those of the device where there is more than one. Libraries with threads of
// their own set their number to `count`.
struct Threads {
  int count;
  const Eigen::ThreadPoolDevice* device;  // null where count is 1
};

struct Gradients {
  std::vector<float> weight, bias;
};

struct Contender {
  std::string name;           // "who" or "who:variant"; of the variants of one the report takes the fastest
  std::function<void()> run;  // one pass; the result is in Problem::out unless `result` says otherwise
  std::function<const float*()> result = {};  // where y or dx is, for those that allocate it themselves
  std::function<Gradients()> gradients = {};  // weight's and bias' after run; a run adds to nothing from before
  std::function<void()> prepare = {};         // called untimed before each series of runs
  bool is_limit = false;                      // moves the same memory and computes something else
};

std::vector<Contender> limits(const Problem& problem, Pass pass, Threads threads);
std::vector<Contender> ours(const Problem& problem, Pass pass, Threads threads);
std::vector<Contender> eigen_expressions(const Problem& problem, Pass pass, Threads threads);
std::vector<Contender> torch(const Problem& problem, Pass pass, Threads threads);
std::vector<Contender> onednn(const Problem& problem, Pass pass, Threads threads);

std::string torch_version();
std::string onednn_version();

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_CONTENDERS_HPP
