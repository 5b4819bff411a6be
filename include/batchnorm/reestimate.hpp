// Running statistics taken anew from data, for a layer or for the layers of a network at once.

#ifndef BATCHNORM_REESTIMATE_HPP
#define BATCHNORM_REESTIMATE_HPP

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/batch_norm.hpp"
#include "batchnorm/moments.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// How `reestimate` makes one mean and one variance of those of many batches. Both are in use.
enum class Pooling {
  all_values,       ///< those of all values together, whatever the batch: exact, with the variance between the batches
  mean_of_batches,  ///< the mean of the batches' means and that of their variances, with one share for each batch
};

namespace detail {

/// The statistics of the batches that a layer has seen, pooled.
template <class A>
class PooledStatistics {
 public:
  PooledStatistics(Eigen::Index channels, Pooling pooling, Variance kind)
      : pooling_(pooling), kind_(kind), means_(channels), variances_(channels) {}

  void add(const BasicMoments<A>& batch) {
    if (batch.count() == 0) return;
    ++batches_;
    if (pooling_ == Pooling::all_values) {
      means_.merge(batch);
      return;
    }
    // Each batch is one value, its mean or its variance.
    const auto variance = batch.variance(kind_);
    MomentsAccess::add(means_, 1, A(1), [&](Eigen::Index c) {
      return ChannelMoments<A>{batch.mean()(c), batch.mean_residual()(c), A(0)};
    });
    MomentsAccess::add(variances_, 1, A(1), [&](Eigen::Index c) { return ChannelMoments<A>{variance(c), A(0), A(0)}; });
  }

  std::int64_t batches() const { return batches_; }
  Pooling pooling() const { return pooling_; }
  Index count() const { return means_.count(); }
  const Eigen::Tensor<A, 1>& mean() const { return means_.mean(); }
  Eigen::Tensor<A, 1> variance() const {
    return pooling_ == Pooling::all_values ? means_.variance(kind_) : variances_.mean();
  }

 private:
  Pooling pooling_;
  Variance kind_;
  BasicMoments<A> means_, variances_;  // of all values the moments are in the former
  std::int64_t batches_ = 0;
};

/// Puts them into a layer, by two steps: what may throw, and what cannot.
template <class L>
class RunningStatisticsOf {
 public:
  RunningStatisticsOf(const L& layer, const PooledStatistics<typename L::A>& pooled)
      : mean_(copied_values<typename L::Param>("mean", pooled.mean())),
        var_(copied_values<typename L::Param>("variance", pooled.variance())),
        batches_(pooled.batches()) {
    layer.check_parameters();
    if (pooled.pooling() == Pooling::all_values) layer.check_moments(pooled.count());
  }

  void put_into(L& layer) const noexcept {
    std::copy(mean_.begin(), mean_.end(), layer.running_mean.data());
    std::copy(var_.begin(), var_.end(), layer.running_var.data());
    layer.num_batches_tracked = batches_;
  }

 private:
  std::vector<typename L::Param> mean_, var_;
  std::int64_t batches_;
};

template <class L>
void check_reestimated(const L& layer) {
  layer.check_whole();
  layer.check_has_channels();
  layer.check_parameters();
  require(layer.options.track_running_stats(),
          "expected a layer with running statistics, got one of track_running_stats(false)");
}

/// A layer of a network, of whatever rank and scalar, whose statistics are being taken anew.
class Reestimation {
 public:
  Reestimation() = default;
  Reestimation(const Reestimation&) = delete;
  Reestimation& operator=(const Reestimation&) = delete;
  virtual ~Reestimation() = default;

  /// Takes in what the layer has seen since the last call.
  virtual void end_batch() = 0;
  /// Makes the new statistics; throws where there are none. `number` is that of the layer, of `layers`.
  virtual void finish(std::size_t number, std::size_t layers) = 0;
  virtual void commit() noexcept = 0;
};

/// While it lives, the layer normalizes by its batches and tells their moments, in place of its running statistics.
/// Then the layer is as it was, save what commit() has put in.
template <class L>
class LayerReestimation final : public Reestimation {
 public:
  using A = typename L::A;

  LayerReestimation(L& layer, Pooling pooling)
      : layer_(layer),
        saved_(layer.saved),
        batch_(checked_channels(layer)),
        pooled_(layer.channels(), pooling, layer.options.running_variance()) {
    layer_.collector = &batch_;
  }
  LayerReestimation(const LayerReestimation&) = delete;
  LayerReestimation& operator=(const LayerReestimation&) = delete;
  ~LayerReestimation() override {
    layer_.collector = nullptr;
    layer_.saved = std::move(saved_);
  }

  void end_batch() override {
    pooled_.add(batch_);
    batch_ = BasicMoments<A>(layer_.channels());
  }
  void finish(std::size_t number, std::size_t layers) override {
    if (pooled_.batches() == 0) {
      fail<std::logic_error>("expected each layer to see values of a batch, got none in layer ", number, " of ", layers,
                             ": the function that runs the network is to call its forward, of which infer is none");
    }
    result_ = std::make_unique<RunningStatisticsOf<L>>(layer_, pooled_);
  }
  void commit() noexcept override { result_->put_into(layer_); }

 private:
  static Eigen::Index checked_channels(const L& layer) {
    check_reestimated(layer);
    if (layer.collector.get() != nullptr) {
      fail<std::logic_error>("expected each layer once, got one whose statistics are being taken anew already");
    }
    return layer.channels();
  }

  L& layer_;
  typename L::Saved saved_;
  BasicMoments<A> batch_;
  PooledStatistics<A> pooled_;
  std::unique_ptr<RunningStatisticsOf<L>> result_{};
};

template <class X>
inline constexpr bool is_batch_norm = false;
template <class T, int Dims>
inline constexpr bool is_batch_norm<BatchNorm<T, Dims>> = true;

template <class X>
inline constexpr bool is_tuple = false;
template <class... Elements>
inline constexpr bool is_tuple<std::tuple<Elements...>> = true;

template <class X>
inline constexpr bool is_reference_wrapper = false;
template <class X>
inline constexpr bool is_reference_wrapper<std::reference_wrapper<X>> = true;

template <class X, class = void>
inline constexpr bool is_pointer_like = false;
template <class X>
inline constexpr bool is_pointer_like<X, std::void_t<decltype(*std::declval<X&>())>> = true;

/// Calls f for each layer: of one, of a tuple, or of a range; in those also through pointers of any kind, and nested.
template <class Layers, class F>
void for_each_layer(Layers& layers, const F& f) {
  if constexpr (is_batch_norm<Layers>) {
    f(layers);
  } else if constexpr (is_tuple<plain<Layers>>) {
    std::apply([&](auto&... each) { (for_each_layer(each, f), ...); }, layers);
  } else if constexpr (is_reference_wrapper<plain<Layers>>) {
    for_each_layer(layers.get(), f);
  } else if constexpr (has_begin_and_end<Layers>) {
    for (auto&& each : layers) for_each_layer(each, f);
  } else if constexpr (is_pointer_like<Layers>) {
    for_each_layer(*layers, f);
  } else {
    static_assert(is_batch_norm<Layers>,
                  "batchnorm: reestimate takes a layer that is not const, a tuple of layers such as std::tie(first, "
                  "second), or a range of layers or of pointers to layers");
  }
}

template <class Device, class T, int Dims, class X>
void add_batch(const Device& device, Layer<T, Dims>& layer, const X& x, PooledStatistics<accumulator_t<T>>& pooled) {
  if constexpr (check_input_type<T, Dims, X>()) {
    const auto& input = evaluated(device, x);
    const auto shape = view_tensor<const T>(input, layer.axis).shape;
    const View view = layer.check_input(shape, static_cast<int>(layout_of<X>));
    if (pooled.pooling() == Pooling::mean_of_batches) {
      static_cast<void>(statistics_for({}, true, layer.options, view.values_per_channel(), shape));  // throws or not
      if (!enters_running_stats(layer.options, view.values_per_channel())) return;
    }
    BasicMoments<accumulator_t<T>> batch(layer.channels());
    pooled.add(batch.add(device, input, layer.axis));
  }
}

}  // namespace detail

/// Sets the running statistics of a layer to those of the data: of all `batches`, a range of tensors or matrices such
/// as `forward` takes, also one that makes them as it is read. What it had learned of other data is gone. Reads each
/// batch once and writes no output.
///
///     batchnorm::reestimate(bn, batches);
///     batchnorm::reestimate(bn, batches, batchnorm::Pooling::mean_of_batches);
///
/// The mean is that of all values, and the variance theirs too, as options().running_variance() has it, with what the
/// means of the batches differ by; or, with Pooling::mean_of_batches, both are means over the batches (which leaves
/// that out, and gives small batches the weight of large ones). num_batches_tracked() becomes the number of batches,
/// empty ones not counted, so that training goes on from there. The momentum has no part in it. Nothing else of the
/// layer changes: neither its mode nor saved_statistics(), weight, bias or gradients.
///
/// A batch of one value per channel is like any other for Pooling::all_values; for Pooling::mean_of_batches
/// options().single_value() decides, as in `forward`.
///
/// Throws std::invalid_argument for batches that do not fit, for no batch or no values, or one value in all, and for a
/// layer without running statistics; std::logic_error for a layer that has no channels yet. Then nothing has changed.
template <class Device, class T, int Dims, class Batches, std::enable_if_t<detail::is_device<Device>, int> = 0>
void reestimate(const Device& device, BatchNorm<T, Dims>& layer, Batches&& batches,
                Pooling pooling = Pooling::all_values) {
  auto& state = detail::LayerAccess::layer(layer);
  detail::check_reestimated(state);
  detail::PooledStatistics<typename BatchNorm<T, Dims>::Accumulator> pooled(state.channels(), pooling,
                                                                            layer.options().running_variance());
  for (auto&& batch : batches) detail::add_batch(device, state, batch, pooled);
  detail::require(pooled.batches() != 0, "expected at least one batch that has values, got none");
  detail::RunningStatisticsOf<std::remove_reference_t<decltype(state)>>(state, pooled).put_into(state);
}

/// The same on the calling thread.
template <class T, int Dims, class Batches>
void reestimate(BatchNorm<T, Dims>& layer, Batches&& batches, Pooling pooling = Pooling::all_values) {
  reestimate(Eigen::DefaultDevice(), layer, batches, pooling);
}

/// Sets the running statistics of the layers of a network to those of the data, all in one pass over it (Wu and
/// Johnson, arXiv 2105.07576, section 3; the last step of SWA, arXiv 1803.05407; AdaBN, arXiv 1603.04779, with data of
/// the new domain). `layers` is one layer, a tuple of them, or a range of layers or of pointers to layers, also nested.
/// `batches` is any range, and `run(batch)` runs the network on one of its elements, with the `forward` of the layers.
///
///     batchnorm::reestimate(std::tie(first, second), batches, [&](const Batch& batch) { network(batch); });
///
/// Meanwhile each layer normalizes by the batch, whatever its mode, and keeps its running statistics as they are; so
/// the layers behind it see what they see in training. In the end each layer has the statistics of what came into it,
/// pooled as for one layer (above). A layer that runs several times on one batch pools these. Other layers do what
/// their mode says: call eval() for those that are to stay as they are, and turn dropout off.
///
/// Throws what `run` throws; std::invalid_argument for no batch, and for a layer without running statistics;
/// std::logic_error where a layer has seen no value, is named twice, or has no channels yet. Then nothing has changed.
template <class Layers, class Batches, class Run,
          std::enable_if_t<!std::is_same_v<detail::plain<Run>, Pooling> && !detail::is_device<detail::plain<Layers>>,
                           int> = 0>
void reestimate(Layers&& layers, Batches&& batches, Run&& run, Pooling pooling = Pooling::all_values) {
  std::vector<std::unique_ptr<detail::Reestimation>> reestimations;
  detail::for_each_layer(layers, [&](auto& layer) {
    auto& state = detail::LayerAccess::layer(layer);
    reestimations.push_back(
        std::make_unique<detail::LayerReestimation<std::remove_reference_t<decltype(state)>>>(state, pooling));
  });
  detail::require(!reestimations.empty(), "expected at least one layer, got none");
  bool any = false;
  for (auto&& batch : batches) {
    run(batch);
    for (auto& each : reestimations) each->end_batch();
    any = true;
  }
  detail::require(any, "expected at least one batch, got none");
  for (std::size_t i = 0; i < reestimations.size(); ++i) reestimations[i]->finish(i, reestimations.size());
  for (auto& each : reestimations) each->commit();
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_REESTIMATE_HPP
