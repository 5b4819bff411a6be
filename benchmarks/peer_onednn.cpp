// oneDNN: primitives made before, on memory objects over the problem's memory, in the problem's own layout.
// It keeps no running statistics, so its training forward does a little less than the others'.

#include <omp.h>

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "contenders.hpp"

namespace bench {
namespace {

using dnnl::memory;
using Forward = dnnl::batch_normalization_forward;
using Backward = dnnl::batch_normalization_backward;
using Flags = dnnl::normalization_flags;

struct State {
  explicit State(const Problem& problem)
      : weight(problem.weight),
        bias(problem.bias),
        mean(problem.running_mean),
        variance(problem.running_var),
        weight_grad(weight.size()),
        bias_grad(weight.size()) {}

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::vector<float> weight, bias, mean, variance, weight_grad, bias_grad;
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;

  void execute() {
    primitive.execute(stream, arguments);
    stream.wait();
  }
};

Forward::primitive_desc describe_forward(const dnnl::engine& engine, dnnl::prop_kind kind, const memory::desc& tensor,
                                         float epsilon, Flags flags) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, kind, tensor, tensor, epsilon, flags};
#else
  return {Forward::desc(kind, tensor, epsilon, flags), engine};
#endif
}

Backward::primitive_desc describe_backward(const dnnl::engine& engine, const memory::desc& tensor, float epsilon,
                                           Flags flags, const Forward::primitive_desc& forward) {
  const auto kind = dnnl::prop_kind::backward;
#if DNNL_VERSION_MAJOR >= 3
  return {engine, kind, tensor, tensor, tensor, epsilon, flags, forward};
#else
  return {Backward::desc(kind, tensor, tensor, epsilon, flags), engine, forward};
#endif
}

Contender contender(const Problem& problem, Pass pass, Threads threads, bool as_rank_4) {
  omp_set_num_threads(threads.count);  // a primitive is made for the threads there are
  auto s = std::make_shared<State>(problem);
  const Shape& shape = problem.shape;
  const bool rank_2 = problem.layout == Layout::nc && !as_rank_4;
  const memory::dims dims = rank_2 ? memory::dims{shape.samples, shape.channels}
                                   : memory::dims{shape.samples, shape.channels, shape.rank_2() ? 1 : shape.height,
                                                  shape.rank_2() ? 1 : shape.width};
  const auto tag = rank_2                           ? memory::format_tag::nc
                   : problem.layout == Layout::nchw ? memory::format_tag::nchw
                                                    : memory::format_tag::nhwc;
  const memory::desc tensor(dims, memory::data_type::f32, tag);
  const memory::desc vector({shape.channels}, memory::data_type::f32, memory::format_tag::x);
  const auto over = [&](std::vector<float>& values) { return memory(vector, s->engine, values.data()); };
  const auto over_buffer = [&](const Buffer& buffer) { return memory(tensor, s->engine, buffer.data()); };
  const float epsilon = static_cast<float>(problem.epsilon);
  const Flags affine = Flags::use_scale | Flags::use_shift;

  const auto forward = describe_forward(
      s->engine, pass == Pass::infer ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training, tensor,
      epsilon, pass == Pass::infer ? affine | Flags::use_global_stats : affine);
  s->primitive = Forward(forward);
  s->arguments = {{DNNL_ARG_SRC, over_buffer(problem.x)}, {DNNL_ARG_DST, over_buffer(problem.out)},
                  {DNNL_ARG_MEAN, over(s->mean)},         {DNNL_ARG_VARIANCE, over(s->variance)},
                  {DNNL_ARG_SCALE, over(s->weight)},      {DNNL_ARG_SHIFT, over(s->bias)}};

  Contender contender;
  contender.name = rank_2 || problem.layout != Layout::nc ? "onednn" : "onednn:nhwc_view";
  contender.run = [s] { s->execute(); };
  const int count = threads.count;
  contender.prepare = [count] { omp_set_num_threads(count); };
  if (pass == Pass::backward) {
    s->execute();  // the batch statistics
    s->primitive = Backward(describe_backward(s->engine, tensor, epsilon, affine, forward));
    s->arguments = {{DNNL_ARG_SRC, over_buffer(problem.x)},
                    {DNNL_ARG_DIFF_DST, over_buffer(problem.dy)},
                    {DNNL_ARG_DIFF_SRC, over_buffer(problem.out)},
                    {DNNL_ARG_MEAN, over(s->mean)},
                    {DNNL_ARG_VARIANCE, over(s->variance)},
                    {DNNL_ARG_SCALE, over(s->weight)},
                    {DNNL_ARG_SHIFT, over(s->bias)},
                    {DNNL_ARG_DIFF_SCALE, over(s->weight_grad)},
                    {DNNL_ARG_DIFF_SHIFT, over(s->bias_grad)}};
    contender.gradients = [s] { return Gradients{s->weight_grad, s->bias_grad}; };
  }
  return contender;
}

}  // namespace

std::vector<Contender> onednn(const Problem& problem, Pass pass, Threads threads) {
  std::vector<Contender> contenders = {contender(problem, pass, threads, false)};
  if (problem.layout == Layout::nc) contenders.push_back(contender(problem, pass, threads, true));
  return contenders;
}

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

}  // namespace bench
