// A layer's state for files, its parameters for optimizers, and layers of other types: what batch_norm.hpp declares.

#ifndef BATCHNORM_LAYER_STATE_HPP
#define BATCHNORM_LAYER_STATE_HPP

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "batchnorm/batch_norm.hpp"
#include "batchnorm/detail/state_reader.hpp"
#include "batchnorm/state_dict.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// A parameter of a layer, as `parameters()` gives it to an optimizer. `P` is the layer's Param.
template <class P>
struct Parameter {
  /// The name behind the prefix that `parameters` was given, as "bn1.weight".
  std::string name;
  /// The parameter itself, in the layer's memory.
  Eigen::Map<Eigen::Matrix<P, Eigen::Dynamic, 1>> value;
  /// The sum of its gradients since zero_grad(), in the layer's memory.
  Eigen::Map<Eigen::Matrix<P, Eigen::Dynamic, 1>> gradient;
};

template <class T, int Dims>
template <class Names>
StateDict BatchNorm<T, Dims>::state_dict(const std::string& prefix, const Names& names) const {
  static_assert(detail::has_dtype<Param>,
                "batchnorm: a state dict holds float and double: cast a layer of another type to one of these, as in "
                "bn.cast<double>().state_dict()");
  layer_.check_whole();
  layer_.check_parameters();
  StateDict dict;
  const auto add = [&](const std::string& name, bool used, const auto& values) {
    if constexpr (detail::has_dtype<Param>) {
      if (used && !name.empty()) dict.add(prefix + name, values);
    }
  };
  const bool tracked = options().track_running_stats();
  add(names.weight, options().scale(), weight());
  add(names.bias, options().shift(), bias());
  add(names.running_mean, tracked, running_mean());
  add(names.running_var, tracked, running_var());
  add(names.num_batches_tracked, tracked, num_batches_tracked());
  return dict;
}

template <class T, int Dims>
template <class Names>
BatchNorm<T, Dims>& BatchNorm<T, Dims>::load_state_dict(const StateDict& dict, const std::string& prefix,
                                                        const Names& names) {
  layer_.check_whole();
  detail::StateReader<StateDict> reader(dict, prefix);
  const bool scaled = options().scale(), shifted = options().shift(), tracked = options().track_running_stats();
  const NamedArray* const found_weight = reader.find(scaled, names.weight);
  const NamedArray* const found_bias = reader.find(shifted, names.bias);
  const NamedArray* const found_mean = reader.find(tracked, names.running_mean);
  const NamedArray* const found_var = reader.find(tracked, names.running_var);
  const NamedArray* const found_batches = reader.find(tracked, names.num_batches_tracked);
  reader.check_all_found();

  // A layer that has yet to learn its channels takes them from the first array there is, which all others must fit.
  auto channels = static_cast<std::int64_t>(options().num_features());
  for (const NamedArray* const found : {found_weight, found_bias, found_mean, found_var}) {
    if (channels == 0 && found != nullptr && found->shape.size() == 1) channels = found->shape[0];
  }
  const auto new_weight = reader.template values<Param>(found_weight, channels);
  const auto new_bias = reader.template values<Param>(found_bias, channels);
  const auto new_mean = reader.template values<Param>(found_mean, channels);
  const auto new_var = reader.template values<Param>(found_var, channels);
  const std::int64_t batches = reader.count(found_batches, num_batches_tracked());
  check_batches(batches);

  const auto apply = [&](Layer& layer) {
    if (found_weight != nullptr) put(new_weight, layer.weight);
    if (found_bias != nullptr) put(new_bias, layer.bias);
    if (found_mean != nullptr) put(new_mean, layer.running_mean);
    if (found_var != nullptr) put(new_var, layer.running_var);
    layer.num_batches_tracked = batches;
  };
  if (channels == 0) {
    apply(layer_);  // nothing is kept of any channel, so that none tells how many there are
  } else {
    change(static_cast<Index>(channels), apply);
  }
  return *this;
}

template <class T, int Dims>
std::vector<Parameter<typename BatchNorm<T, Dims>::Param>> BatchNorm<T, Dims>::parameters(const std::string& prefix) {
  std::vector<Parameter<Param>> result;
  if (options().scale()) result.push_back({prefix + "weight", as_vector(weight()), as_vector(weight_grad())});
  if (options().shift()) result.push_back({prefix + "bias", as_vector(bias()), as_vector(bias_grad())});
  return result;
}

template <class T, int Dims>
template <class U, int OtherDims>
BatchNorm<U, OtherDims> BatchNorm<T, Dims>::cast() const {
  using Other = BatchNorm<U, OtherDims>;
  layer_.check_whole();
  Other result(options(), layer_.fused == nullptr ? nullptr : Other::template fused_kernels<true>(),
               layer_.extended == nullptr ? nullptr : Other::template extended_table<true>());
  const auto copy = [](const Vector& from, typename Other::Vector& to) {
    to.resize(from.size());
    for (Index c = 0; c < from.size(); ++c) detail::convert_element(from(c), to(c));
  };
  copy(weight(), result.weight());
  copy(bias(), result.bias());
  copy(weight_grad(), result.weight_grad());
  copy(bias_grad(), result.bias_grad());
  copy(running_mean(), result.running_mean());
  copy(running_var(), result.running_var());
  result.num_batches_tracked(num_batches_tracked()).train(is_training()).check_backward(check_backward());
  result.layer_.normalize_with = layer_.normalize_with;
  result.layer_.updates = layer_.updates;
  return result;
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_LAYER_STATE_HPP
