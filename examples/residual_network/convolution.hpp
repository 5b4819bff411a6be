// The convolution of 3 x 3 pixels with a border of zeros, which keeps height and width, as matrix products: for each
// sample
//
//     y [outputs, pixels] = weight [outputs, inputs * 9] * patches(x) [inputs * 9, pixels]
//
// where the column of a pixel holds the 3 x 3 pixels around it in every input channel. It has no bias: batch
// normalization follows, whose own shift takes its place (Ioffe and Szegedy 2015, section 3.2).

#ifndef RESIDUAL_NETWORK_CONVOLUTION_HPP
#define RESIDUAL_NETWORK_CONVOLUTION_HPP

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "../why_batch_norm/parameter.hpp"
#include "../why_batch_norm/random.hpp"
#include "tensor.hpp"

namespace residual_network {

constexpr Index kernel_side = 3;
constexpr Index kernel_size = kernel_side * kernel_side;

// The patches of one sample: row (channel, down, right) is the channel's picture moved so that at each pixel lies the
// one that is `down - 1` below and `right - 1` to the right of it, and 0 where that is outside.
template <typename T>
void take_patches(const Tensor4<T>& x, Index number, Matrix<T>& patches) {
  using Picture = Eigen::Map<Matrix<T>>;
  using ConstPicture = Eigen::Map<const Matrix<T>>;
  const Index height = x.dimension(2);
  const Index width = x.dimension(3);
  const auto channels = sample(x, number);
  patches.resize(channels.rows() * kernel_size, height * width);
  Index row = 0;
  for (Index channel = 0; channel < channels.rows(); ++channel) {
    const ConstPicture from(channels.row(channel).data(), height, width);
    for (Index down = -1; down <= 1; ++down) {
      for (Index right = -1; right <= 1; ++right) {
        Picture to(patches.row(row++).data(), height, width);
        const Index rows = std::max<Index>(height - std::abs(down), 0);
        const Index columns = std::max<Index>(width - std::abs(right), 0);
        if (down != 0 || right != 0) to.setZero();
        to.block(down < 0 ? height - rows : 0, right < 0 ? width - columns : 0, rows, columns) =
            from.block(down > 0 ? height - rows : 0, right > 0 ? width - columns : 0, rows, columns);
      }
    }
  }
}

// y becomes the convolution of x with the weight [outputs, inputs * 9].
template <typename T>
void convolve(const Tensor4<T>& x, const Matrix<T>& weight, Matrix<T>& patches, Tensor4<T>& y) {
  y.resize(x.dimension(0), weight.rows(), x.dimension(2), x.dimension(3));
  for (Index number = 0; number < x.dimension(0); ++number) {
    take_patches(x, number, patches);
    sample(y, number).noalias() = weight * patches;
  }
}

template <typename T>
class Convolution {
 public:
  // Weights are normal with mean 0 and variance 2 / (9 inputs) (He et al. 2015, "Delving Deep into Rectifiers",
  // equation 10).
  Convolution(Index inputs, Index outputs, why_batch_norm::Random& random)
      : inputs_(inputs),
        weight_(outputs, inputs * kernel_size),
        weight_grad_(Matrix<T>::Zero(outputs, inputs * kernel_size)) {
    const double deviation = std::sqrt(2.0 / static_cast<double>(weight_.cols()));
    for (Index i = 0; i < weight_.size(); ++i) weight_.data()[i] = static_cast<T>(deviation * random.normal());
  }

  // x is [samples, inputs, height, width], y becomes [samples, outputs, height, width].
  void forward(const Tensor4<T>& x, Tensor4<T>& y) { convolve(x, weight_, patches_, y); }

  // The same for a trained network, which any number of threads may call.
  Tensor4<T> infer(const Tensor4<T>& x) const {
    Tensor4<T> y;
    Matrix<T> patches;
    convolve(x, weight_, patches, y);
    return y;
  }

  // Sets the gradient of the weight, given the x of forward and the gradient dy of the loss by y. The patches are
  // taken again, since to keep them would take nine times the memory of x.
  void set_gradients(const Tensor4<T>& x, const Tensor4<T>& dy) {
    weight_grad_.setZero();
    for (Index number = 0; number < x.dimension(0); ++number) {
      take_patches(x, number, patches_);
      weight_grad_.noalias() += sample(dy, number) * patches_.transpose();
    }
  }

  // dx becomes the gradient of the loss by x. A pixel of x reaches those of y around it, each by the weight of the
  // opposite direction: dx is the convolution of dy with the weight whose inputs and outputs change places and whose 9
  // numbers are in reverse order.
  void backward(const Tensor4<T>& dy, Tensor4<T>& dx) {
    Matrix<T> reversed(inputs_, weight_.rows() * kernel_size);
    for (Index output = 0; output < weight_.rows(); ++output) {
      for (Index input = 0; input < inputs_; ++input) {
        reversed.row(input).segment(output * kernel_size, kernel_size) =
            weight_.row(output).segment(input * kernel_size, kernel_size).reverse();
      }
    }
    convolve(dy, reversed, patches_, dx);
  }

  // A view into this layer: it ends with it and does not survive a move.
  why_batch_norm::Parameter<T> parameter() { return {weight_.data(), weight_grad_.data(), weight_.size()}; }

 private:
  Index inputs_;
  Matrix<T> weight_;  // [outputs, inputs * 9]
  Matrix<T> weight_grad_;
  Matrix<T> patches_;  // of the sample that is being worked on
};

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_CONVOLUTION_HPP
