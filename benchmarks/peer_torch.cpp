// PyTorch through libtorch: the native operators without autograd, on tensors that view the problem's memory.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/api/include/torch/version.h>

#include <array>
#include <memory>
#include <tuple>

#include "contenders.hpp"

namespace bench {
namespace {

struct State {
  at::Tensor x, dy, out, weight, bias, running_mean, running_var;
  at::Tensor mean, inv_std;
  std::tuple<at::Tensor, at::Tensor, at::Tensor> allocated;  // by the operators that take no output
};

at::Tensor view(const std::vector<float>& values) {
  return at::from_blob(const_cast<float*>(values.data()), {static_cast<Index>(values.size())}).clone();
}

at::Tensor view(const Problem& problem, const Buffer& buffer, bool as_rank_4) {
  const Shape& s = problem.shape;
  if (problem.layout == Layout::nc && !as_rank_4) return at::from_blob(buffer.data(), {s.samples, s.channels});
  const Index height = s.rank_2() ? 1 : s.height, width = s.rank_2() ? 1 : s.width;
  if (problem.layout == Layout::nchw) return at::from_blob(buffer.data(), {s.samples, s.channels, height, width});
  return at::from_blob(buffer.data(), {s.samples, s.channels, height, width},
                       {height * width * s.channels, 1, width * s.channels, s.channels});
}

Contender contender(const Problem& problem, Pass pass, Threads threads, bool as_rank_4) {
  const c10::InferenceMode no_autograd;
  at::set_num_threads(threads.count);
  auto s = std::make_shared<State>();
  s->x = view(problem, problem.x, as_rank_4);
  s->dy = view(problem, problem.dy, as_rank_4);
  s->out = view(problem, problem.out, as_rank_4);
  s->weight = view(problem.weight);
  s->bias = view(problem.bias);
  s->running_mean = view(problem.running_mean);
  s->running_var = view(problem.running_var);
  s->mean = at::empty_like(s->weight);
  s->inv_std = at::empty_like(s->weight);
  const double momentum = problem.momentum, epsilon = problem.epsilon;
  const int count = threads.count;

  Contender contender;
  contender.name = as_rank_4 ? "torch:channels_last_view" : "torch";
  contender.prepare = [count] { at::set_num_threads(count); };
  if (pass == Pass::backward) {
    std::tie(s->out, s->mean, s->inv_std) =
        at::native_batch_norm(s->x, s->weight, s->bias, s->running_mean, s->running_var, true, momentum, epsilon);
    s->out.reset();
    // Its only variant with outputs allocates them too, then copies. What was freed is allocated again: see main().
    contender.run = [s, epsilon] {
      const c10::InferenceMode inference;
      s->allocated = {};
      s->allocated = at::native_batch_norm_backward(s->dy, s->x, s->weight, s->running_mean, s->running_var, s->mean,
                                                    s->inv_std, true, epsilon, std::array<bool, 3>{true, true, true});
    };
    contender.gradients = [s] {
      const auto values = [](const at::Tensor& t) {
        const at::Tensor c = t.contiguous();
        return std::vector<float>(c.data_ptr<float>(), c.data_ptr<float>() + c.numel());
      };
      return Gradients{values(std::get<1>(s->allocated)), values(std::get<2>(s->allocated))};
    };
  } else {
    const bool training = pass == Pass::forward;
#if TORCH_VERSION_MAJOR >= 2
    contender.run = [s, training, momentum, epsilon] {
      const c10::InferenceMode inference;
      at::native_batch_norm_out(s->out, s->mean, s->inv_std, s->x, s->weight, s->bias, s->running_mean, s->running_var,
                                training, momentum, epsilon);
    };
    return contender;
#else
    s->out.reset();
    contender.run = [s, training, momentum, epsilon] {
      const c10::InferenceMode inference;
      s->allocated = {};
      s->allocated =
          at::native_batch_norm(s->x, s->weight, s->bias, s->running_mean, s->running_var, training, momentum, epsilon);
    };
#endif
  }
  contender.result = [s]() -> const float* { return std::get<0>(s->allocated).data_ptr<float>(); };
  return contender;
}

}  // namespace

std::vector<Contender> torch(const Problem& problem, Pass pass, Threads threads) {
  std::vector<Contender> contenders = {contender(problem, pass, threads, false)};
  if (problem.layout == Layout::nc) contenders.push_back(contender(problem, pass, threads, true));
  return contenders;
}

std::string torch_version() { return TORCH_VERSION; }

}  // namespace bench
