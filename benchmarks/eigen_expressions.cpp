// Batch normalization as a user of Eigen's tensors writes it without this library: mean, broadcast, square, broadcast.
// Every temporary is allocated before and evaluated on the device.

#include <algorithm>
#include <memory>

#include "contenders.hpp"

namespace bench {
namespace {

template <int Rank>
struct Expressions {
  using Tensor = Eigen::Tensor<float, Rank, Eigen::RowMajor>;
  using Vector = Eigen::Tensor<float, 1, Eigen::RowMajor>;
  using Map = Eigen::TensorMap<Tensor>;
  using ConstMap = Eigen::TensorMap<const Tensor>;
  using Dimensions = Eigen::array<Index, Rank>;

  ConstMap x, dy;
  Map out;
  Dimensions per_channel;                 // a vector over the channels as a tensor of this rank: 1, C, 1, 1
  Dimensions whole;                       // how often that is repeated: N, 1, H, W
  Eigen::array<Index, Rank - 1> reduced;  // the axes that are averaged away: 0, 2, 3
  float epsilon, momentum, count;
  Vector weight, bias, running_mean, running_var, weight_grad, bias_grad;
  Vector mean, variance, inv_std, scale, shift, mean_dy, mean_dy_x_hat;
  Tensor centered;

  explicit Expressions(const Problem& problem) : Expressions(problem, dimensions(problem)) {}

  Expressions(const Problem& problem, const Dimensions& dims)
      : x(problem.x.data(), dims), dy(problem.dy.data(), dims), out(problem.out.data(), dims), centered(dims) {
    const std::size_t channel_axis = problem.layout == Layout::nhwc ? Rank - 1 : 1;
    per_channel.fill(1);
    whole = dims;
    per_channel[channel_axis] = dims[channel_axis];
    whole[channel_axis] = 1;
    for (std::size_t axis = 0, i = 0; axis < Rank; ++axis)
      if (axis != channel_axis) reduced[i++] = static_cast<Index>(axis);
    epsilon = static_cast<float>(problem.epsilon);
    momentum = static_cast<float>(problem.momentum);
    const Index channels = problem.shape.channels;
    count = static_cast<float>(problem.shape.size() / channels);
    for (Vector* v : {&mean, &variance, &inv_std, &scale, &shift, &mean_dy, &mean_dy_x_hat}) v->resize(channels);
    for (Vector* v : {&weight_grad, &bias_grad}) {
      v->resize(channels);
      v->setZero();
    }
    copy(weight, problem.weight);
    copy(bias, problem.bias);
    copy(running_mean, problem.running_mean);
    copy(running_var, problem.running_var);
  }

  static Dimensions dimensions(const Problem& problem) {
    const Shape& s = problem.shape;
    if constexpr (Rank == 2) {
      return {s.samples, s.channels};
    } else if (problem.layout == Layout::nchw) {
      return {s.samples, s.channels, s.height, s.width};
    } else {
      return {s.samples, s.height, s.width, s.channels};
    }
  }

  static void copy(Vector& vector, const std::vector<float>& values) {
    vector.resize(static_cast<Index>(values.size()));
    std::copy(values.begin(), values.end(), vector.data());
  }

  template <class Device>
  void forward(const Device& device) {
    mean.device(device) = x.mean(reduced);
    centered.device(device) = x - mean.reshape(per_channel).broadcast(whole);
    variance.device(device) = centered.square().mean(reduced);
    inv_std.device(device) = (variance + epsilon).rsqrt();
    scale.device(device) = weight * inv_std;
    out.device(device) =
        centered * scale.reshape(per_channel).broadcast(whole) + bias.reshape(per_channel).broadcast(whole);
    running_mean.device(device) = running_mean * (1 - momentum) + mean * momentum;
    running_var.device(device) = running_var * (1 - momentum) + variance * (momentum * count / (count - 1));
  }

  template <class Device>
  void infer(const Device& device) {
    scale.device(device) = weight * (running_var + epsilon).rsqrt();
    shift.device(device) = bias - running_mean * scale;
    out.device(device) = x * scale.reshape(per_channel).broadcast(whole) + shift.reshape(per_channel).broadcast(whole);
  }

  template <class Device>
  void backward(const Device& device) {
    centered.device(device) = x - mean.reshape(per_channel).broadcast(whole);
    mean_dy.device(device) = dy.mean(reduced);
    mean_dy_x_hat.device(device) = (dy * centered).mean(reduced) * inv_std;
    bias_grad.device(device) = bias_grad + mean_dy * count;
    weight_grad.device(device) = weight_grad + mean_dy_x_hat * count;
    shift.device(device) = mean_dy_x_hat * inv_std;
    out.device(device) =
        (dy - mean_dy.reshape(per_channel).broadcast(whole) - centered * shift.reshape(per_channel).broadcast(whole)) *
        scale.reshape(per_channel).broadcast(whole);
  }
};

template <int Rank, class Device>
Contender contender(const Problem& problem, Pass pass, const Device& device) {
  auto e = std::make_shared<Expressions<Rank>>(problem);
  Contender contender;
  contender.name = "eigen";
  if (pass == Pass::forward) {
    contender.run = [e, &device] { e->forward(device); };
  } else if (pass == Pass::infer) {
    contender.run = [e, &device] { e->infer(device); };
  } else {
    e->forward(device);
    contender.run = [e, &device] { e->backward(device); };
    contender.prepare = [e] {
      e->weight_grad.setZero();
      e->bias_grad.setZero();
    };
    contender.gradients = [e] {
      const auto values = [](const auto& v) { return std::vector<float>(v.data(), v.data() + v.size()); };
      return Gradients{values(e->weight_grad), values(e->bias_grad)};
    };
  }
  return contender;
}

template <int Rank>
Contender contender(const Problem& problem, Pass pass, Threads threads) {
  static const Eigen::DefaultDevice one_thread;
  return threads.device ? contender<Rank>(problem, pass, *threads.device) : contender<Rank>(problem, pass, one_thread);
}

}  // namespace

std::vector<Contender> eigen_expressions(const Problem& problem, Pass pass, Threads threads) {
  return {problem.shape.rank_2() ? contender<2>(problem, pass, threads) : contender<4>(problem, pass, threads)};
}

}  // namespace bench
