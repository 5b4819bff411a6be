// A batch normalization layer of any rank and layout behind one interface, so that a test loops over ranks and layouts
// at run time and is compiled once. any_layer_impl.hpp has the layers, any_layer_float.cpp and any_layer_double.cpp
// compile them.

#ifndef BATCHNORM_TESTS_ANY_LAYER_HPP
#define BATCHNORM_TESTS_ANY_LAYER_HPP

#include <batchnorm/options.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#include "oracle.hpp"

/// The four ways to call forward, infer and backward.
enum class CallShape { returned, device_returned, into, device_into };

inline constexpr CallShape call_shapes[] = {CallShape::returned, CallShape::device_returned, CallShape::into,
                                            CallShape::device_into};

/// The layer's state, copied.
template <typename T>
struct State {
  std::vector<T> weight, bias, running_mean, running_var, weight_grad, bias_grad;
  std::int64_t batches = 0;
  bool training = true;

  bool operator==(const State& other) const {
    return weight == other.weight && bias == other.bias && running_mean == other.running_mean &&
           running_var == other.running_var && weight_grad == other.weight_grad && bias_grad == other.bias_grad &&
           batches == other.batches && training == other.training;
  }
};

template <typename T>
class AnyLayer {
 public:
  virtual ~AnyLayer() = default;

  /// A layer for tensors of the rank and layout of `geometry`; its channel axis is the options'.
  static std::unique_ptr<AnyLayer> make(const oracle::Geometry& geometry, const batchnorm::BatchNormOptions& options);

  // x, y, dy and dx point to tensors with these extents.
  virtual void forward(const oracle::Extents& extents, const T* x, T* y, CallShape shape = CallShape::into) = 0;
  virtual void infer(const oracle::Extents& extents, const T* x, T* y, CallShape shape = CallShape::into) const = 0;
  virtual void backward(const oracle::Extents& extents, const T* x, const T* dy, T* dx,
                        CallShape shape = CallShape::into) = 0;

  virtual State<T> state() const = 0;
  /// Writes all vectors of the state; the vectors must have the layer's sizes.
  virtual void set_parameters(const State<T>& state) = 0;
  virtual void train(bool on) = 0;
  virtual void zero_grad() = 0;
};

#endif  // BATCHNORM_TESTS_ANY_LAYER_HPP
