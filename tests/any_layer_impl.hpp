// The layers behind AnyLayer: one for each rank from 2 to 5 and each layout.

#ifndef BATCHNORM_TESTS_ANY_LAYER_IMPL_HPP
#define BATCHNORM_TESTS_ANY_LAYER_IMPL_HPP

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <stdexcept>

#include "any_layer.hpp"

template <typename T, int Rank, int Layout>
class LayerOf final : public AnyLayer<T> {
 public:
  explicit LayerOf(const batchnorm::BatchNormOptions& options) : layer_(options) {}

  void forward(const oracle::Extents& extents, const T* x, T* y, CallShape shape) override {
    const ConstMap in(x, dimensions(extents));
    Map out(y, dimensions(extents));
    switch (shape) {
      case CallShape::returned:
        return copy(layer_.forward(in), y);
      case CallShape::device_returned:
        return copy(layer_.forward(device_, in), y);
      case CallShape::into:
        return layer_.forward(in, out);
      case CallShape::device_into:
        return layer_.forward(device_, in, out);
    }
  }

  void infer(const oracle::Extents& extents, const T* x, T* y, CallShape shape) const override {
    const ConstMap in(x, dimensions(extents));
    Map out(y, dimensions(extents));
    switch (shape) {
      case CallShape::returned:
        return copy(layer_.infer(in), y);
      case CallShape::device_returned:
        return copy(layer_.infer(device_, in), y);
      case CallShape::into:
        return layer_.infer(in, out);
      case CallShape::device_into:
        return layer_.infer(device_, in, out);
    }
  }

  void backward(const oracle::Extents& extents, const T* x, const T* dy, T* dx, CallShape shape) override {
    const ConstMap in(x, dimensions(extents)), d_out(dy, dimensions(extents));
    Map d_in(dx, dimensions(extents));
    switch (shape) {
      case CallShape::returned:
        return copy(layer_.backward(in, d_out), dx);
      case CallShape::device_returned:
        return copy(layer_.backward(device_, in, d_out), dx);
      case CallShape::into:
        return layer_.backward(in, d_out, d_in);
      case CallShape::device_into:
        return layer_.backward(device_, in, d_out, d_in);
    }
  }

  State<T> state() const override {
    return {values(layer_.weight()),      values(layer_.bias()),        values(layer_.running_mean()),
            values(layer_.running_var()), values(layer_.weight_grad()), values(layer_.bias_grad()),
            layer_.num_batches_tracked(), layer_.is_training()};
  }

  void set_parameters(const State<T>& state) override {
    assign(layer_.weight(), state.weight);
    assign(layer_.bias(), state.bias);
    assign(layer_.running_mean(), state.running_mean);
    assign(layer_.running_var(), state.running_var);
    assign(layer_.weight_grad(), state.weight_grad);
    assign(layer_.bias_grad(), state.bias_grad);
  }

  void train(bool on) override { layer_.train(on); }
  void zero_grad() override { layer_.zero_grad(); }

 private:
  using Layer = batchnorm::BatchNorm<T, Rank>;
  using Tensor = Eigen::Tensor<T, Rank, Layout>;
  using Map = Eigen::TensorMap<Tensor>;
  using ConstMap = Eigen::TensorMap<const Tensor>;

  static Eigen::DSizes<Eigen::Index, Rank> dimensions(const oracle::Extents& extents) {
    Eigen::DSizes<Eigen::Index, Rank> sizes;
    if (extents.size() != Rank) throw std::logic_error("the extents have another rank than the layer under test");
    std::copy(extents.begin(), extents.end(), sizes.begin());
    return sizes;
  }
  static void copy(const Tensor& from, T* to) { std::copy(from.data(), from.data() + from.size(), to); }
  static std::vector<T> values(const typename Layer::Vector& v) { return {v.data(), v.data() + v.size()}; }
  static void assign(typename Layer::Vector& to, const std::vector<T>& from) {
    if (static_cast<std::size_t>(to.size()) != from.size()) throw std::logic_error("a vector of another size");
    std::copy(from.begin(), from.end(), to.data());
  }

  Layer layer_;
  Eigen::DefaultDevice device_;
};

template <typename T>
std::unique_ptr<AnyLayer<T>> AnyLayer<T>::make(const oracle::Geometry& geometry,
                                               const batchnorm::BatchNormOptions& options) {
  constexpr int row = Eigen::RowMajor, col = Eigen::ColMajor;
  switch (geometry.rank() * 2 + geometry.row_major) {
    case 4:
      return std::make_unique<LayerOf<T, 2, col>>(options);
    case 5:
      return std::make_unique<LayerOf<T, 2, row>>(options);
    case 6:
      return std::make_unique<LayerOf<T, 3, col>>(options);
    case 7:
      return std::make_unique<LayerOf<T, 3, row>>(options);
    case 8:
      return std::make_unique<LayerOf<T, 4, col>>(options);
    case 9:
      return std::make_unique<LayerOf<T, 4, row>>(options);
    case 10:
      return std::make_unique<LayerOf<T, 5, col>>(options);
    case 11:
      return std::make_unique<LayerOf<T, 5, row>>(options);
    default:
      throw std::logic_error("no layer of this rank is compiled");
  }
}

#endif  // BATCHNORM_TESTS_ANY_LAYER_IMPL_HPP
