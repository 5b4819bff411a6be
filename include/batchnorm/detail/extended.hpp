// The passes of a call whose statistics are not simply those of its whole batch or the running ones, or whose
// parameters differ from sample to sample. They are compiled once for each scalar, for tensors of any rank and any
// device, and only where a call or a layer asks for them.
//
// The channels of each group of samples (a ghost batch; else the whole batch is the one group) have statistics of their
// own: those of group g and channel c are the element g * channels + c of every array here.

#ifndef BATCHNORM_DETAIL_EXTENDED_HPP
#define BATCHNORM_DETAIL_EXTENDED_HPP

#include <algorithm>
#include <vector>

#include "batchnorm/detail/algebra/extended.hpp"
#include "batchnorm/detail/fusion.hpp"
#include "batchnorm/detail/schedule/any_device.hpp"
#include "batchnorm/detail/schedule/samples.hpp"
#include "batchnorm/detail/synchronizer.hpp"
#include "batchnorm/saved_statistics.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A parameter of each sample and channel, or of each channel where the sample's stride is 0; null for 1 or 0.
template <class P>
struct Parameter {
  P* data = nullptr;
  Index sample_stride = 0, channel_stride = 1;

  P& ref(Index sample, Index c) const { return data[sample * sample_stride + c * channel_stride]; }
  template <class A>
  A at(Index sample, Index c, double otherwise) const {
    return data == nullptr ? number<A>(otherwise) : A(ref(sample, c));
  }
};

/// Weight and bias, of the layer or of a call, or their gradients.
template <class P>
struct Parameters {
  Parameter<P> weight, bias;
  bool per_sample() const { return weight.sample_stride != 0 || bias.sample_stride != 0; }
};

/// A weight for each position of a view, in the order of [outer, inner], or none.
template <class T>
struct PositionWeights {
  WeightKind kind = WeightKind::none;
  const T* values = nullptr;

  /// As a tensor of the view's shape.
  Elements<const T> elements(const View& view) const { return {values, view.inner, 0}; }
};

/// What forward and backward share.
template <class T>
struct ExtendedCall {
  using A = accumulator_t<T>;
  using Param = param_t<T>;
  View view;
  Samples samples;
  Index group_samples;  ///< samples of a group; the last may have fewer
  PositionWeights<T> weights;
  Parameters<const Param> parameters;
  const FusedKernels<T>* kernels;  ///< null without activation and residual
  FusedSettings<A> settings;

  Index groups() const { return ceil_div(samples.count, group_samples); }
  Index begin_of(Index group) const { return group * group_samples; }
  Index end_of(Index group) const { return (std::min)(samples.count, (group + 1) * group_samples); }
  bool has_mask() const { return weights.kind == WeightKind::mask; }

  /// Calls f(first sample, box) for each part of a group that is normalized with parameters of its own.
  template <class F>
  void for_each_unit(Index group, const F& f) const {
    const Index step = parameters.per_sample() ? 1 : end_of(group) - begin_of(group);
    for (Index s = begin_of(group); s < end_of(group); s += step) {
      for (Index b = 0; b < samples.boxes(); ++b) f(s, samples.box(s, s + step, b));
    }
  }
};

/// What normalizes each channel of each group; what is null is 0, and r is 1.
template <class A>
struct NormalizerArrays {
  A *mean = nullptr, *mean_residual = nullptr, *inv_std = nullptr, *offset = nullptr, *r = nullptr, *d = nullptr;

  Normalizer<A> at(Index i) const {
    const auto value = [i](const A* array, const A& otherwise) { return array == nullptr ? otherwise : array[i]; };
    return {mean[i], mean_residual[i], inv_std[i], value(offset, A(0)), value(r, A(1)), value(d, A(0))};
  }
  void set(Index i, const Normalizer<A>& k) const {
    mean[i] = k.mean;
    mean_residual[i] = k.mean_residual;
    inv_std[i] = k.inv_std;
    if (offset != nullptr) offset[i] = k.offset;
    if (r != nullptr) r[i] = k.r;
    if (d != nullptr) d[i] = k.d;
  }
};

template <class T>
struct ExtendedPasses {
  using A = accumulator_t<T>;
  using Param = param_t<T>;
  using Call = ExtendedCall<T>;

  /// How many positions of a group have a weight above 0, and the sum of the weights.
  struct GroupWeight {
    Index positive = 0;
    A total = A(0);
  };

  static GroupWeight weight_of(const Call& call, Index group) {
    GroupWeight result;
    if (call.weights.kind == WeightKind::none) {
      const Index samples = call.end_of(group) - call.begin_of(group);
      result.positive = call.view.values_per_channel() / call.samples.count * samples;
      result.total = number<A>(result.positive);
      return result;
    }
    for (Index b = 0; b < call.samples.boxes(); ++b) {
      const Box box = call.samples.box(call.begin_of(group), call.end_of(group), b);
      const Elements<const T> weights = box.of(call.weights.elements(call.view));
      for (Index o = 0; o < box.view.outer; ++o) {
        for (Index i = 0; i < box.view.inner; ++i) {
          const A weight = load<Pack<A, 1, false>>(weights.at(o, 0, i)).v[0];
          if (!(weight > A(0))) continue;
          ++result.positive;
          result.total = result.total + weight;
        }
      }
    }
    return result;
  }

  /// Sets the moments of a group's channels, [channels], and returns what they weigh. `memory` is scratch.
  static GroupWeight take_moments(const AnyDevice& device, const Call& call, Index group, const Elements<const T>& x,
                                  const MomentArrays<A>& result, Workspace<A>& workspace) {
    const GroupWeight all = weight_of(call, group);
    A before(0);
    for (Index b = 0; b < call.samples.boxes(); ++b) {
      const Box box = call.samples.box(call.begin_of(group), call.end_of(group), b);
      const auto merge = [&](Index c, const ChannelMoments<A>& more, const A& weight) {
        ChannelMoments<A> total{A(0), A(0), A(0)};
        if (b != 0) total = result.at(c);
        merge_moments(total, before, more, weight);
        result.set(c, total);
      };
      before = before + (call.weights.kind == WeightKind::none
                             ? take_plain_moments(device, box.view, box.of(x), merge, workspace)
                             : take_weighted_moments(device, box.view, box.of(x),
                                                     box.of(call.weights.elements(call.view)), merge, workspace));
    }
    return all;
  }

  /// Primitive 2 for a group. normalizer_of(c) gives what normalizes the group's channel c.
  template <class NormalizerOf>
  static void write(const AnyDevice& device, const Call& call, Index group, const Elements<const T>& x,
                    const Elements<const T>& residual, const Elements<T>& y, const NormalizerOf& normalizer_of) {
    call.for_each_unit(group, [&](Index sample, const Box& box) {
      const View& view = box.view;
      const Operands<T, 1> plain_tensors{{box.of(x)}, {box.of(y)}};
      const Operands<T, 2> fused_tensors{{box.of(x), box.of(residual)}, {box.of(y)}};
      const Elements<const T> weights = box.of(call.weights.elements(call.view));
      Work work = work_on<T>(device, view, call.settings.has_residual ? 2 : 1);
      work.most_columns = half_max_columns<A>;
      write_elements(device, view, work, [&](const Tile& tile, const Prefetches& prefetches) {
        constexpr Index most = half_max_columns<A>;
        A memory[static_cast<std::size_t>(NormalizeArrays<A>::count * most)];
        const auto coefficients = quantities_in<NormalizeArrays<A>>(memory, most);
        for (Index c = 0; c < tile.channels(); ++c) {
          const Index channel = tile.channel_begin + c;
          set_coefficients(call.parameters, sample, channel, normalizer_of(channel), from_channel(coefficients, c));
        }
        if (call.kernels == nullptr) {
          normalize(view, tile, prefetches, coefficients, plain_tensors);
        } else {
          call.kernels->normalize(view, tile, prefetches, coefficients, fused_tensors, call.settings);
        }
        if (call.has_mask()) clear_masked(view, tile, weights, plain_tensors.out[0]);
      });
    });
  }

  /// Primitives 3 and 4 for a group that weighs `weight` together, of which the batch's share in the statistics is
  /// `share`. `sums_of(sample, c, dweight, dbias)` takes the gradients of the parameters, of a sample where they differ
  /// from sample to sample, and of all processes' batch if `global`.
  template <class P, class SumsOf>
  static void backward(const AnyDevice& device, const Call& call, Index group, const GradientTensors<T>& tensors,
                       const NormalizerArrays<A>& normalizers, const A& weight, const A& share, bool constant,
                       const Synchronizer<A>* synchronizer, bool global, const Parameters<P>& forward,
                       const SumsOf& sums_of, Workspace<A>& workspace, Workspace<A>& arrays) {
    const Index channels = call.view.channels, first = group * channels;
    const bool per_sample = call.parameters.per_sample();
    arrays.resize(
        static_cast<std::size_t>((4 + WeightedGradientArrays<A>::count + 2 + GradientArrays<A>::count) * channels));
    const auto recomputed = quantities_in<NormalizeArrays<A>>(arrays.data(), channels);
    const auto coefficients = quantities_in<WeightedGradientArrays<A>>(recomputed.shift() + channels, channels);
    A *const dy = coefficients.slope() + channels, *const products = dy + channels;  // of one box
    const auto plain_coefficients = quantities_in<GradientArrays<A>>(products + channels, channels);
    A *const total_dy = coefficients.offset(), *const total_products = coefficients.slope();
    std::fill_n(total_dy, channels, A(0));
    std::fill_n(total_products, channels, A(0));

    WeightedSettings<A> settings;
    settings.fused = call.settings;
    settings.fused.constant = constant;
    settings.has_weights = call.weights.kind != WeightKind::none;
    settings.is_mask = call.has_mask();
    // The plain kernels, which are faster, where there is nothing to do for the others.
    const bool plain = !settings.has_weights && !per_sample && !constant && tensors.residual_grad.data == nullptr &&
                       call.settings.slope == A(1);
    const auto in_box = [&](const Box& box, const Elements<const T>& elements) {
      return elements.data == nullptr ? box.of(tensors.x) : box.of(elements);
    };
    const auto weights_in = [&](const Box& box) {
      return settings.has_weights ? box.of(call.weights.elements(call.view)) : box.of(tensors.x);
    };
    const auto set_forward = [&](Index sample) {
      for (Index c = 0; c < channels; ++c) {
        set_coefficients(forward, sample, c, normalizers.at(first + c), from_channel(recomputed, c));
      }
    };

    call.for_each_unit(group, [&](Index sample, const Box& box) {
      set_forward(sample);
      const Elements<const T> parts[] = {box.of(tensors.x), box.of(tensors.dy), in_box(box, tensors.output),
                                         weights_in(box)};
      accumulate_gradients<T>(
          device, box.view, work_of_sums<T>(device, box.view, parts, true), workspace,
          [&](const Tile& tile, const Prefetches& prefetches, const GradientSumArrays<A>& sums) {
            if (plain) {
              return accumulate_gradients(box.view, tile, prefetches, parts[0], parts[1], recomputed.mean(), false,
                                          sums);
            }
            run_kernel<AccumulateWeightedGradients, T>(best_isa(), box.view, tile, parts, recomputed, settings,
                                                       prefetches, sums);
          },
          [&](Index c, Index count, const GradientSumArrays<A>& sums, const GradientArrays<A>&) {
            std::copy_n(sums.dy(), count, dy + c);
            std::copy_n(sums.products(), count, products + c);
          },
          NoPass());
      for (Index c = 0; c < channels; ++c) {
        const Normalizer<A> k = normalizers.at(first + c);
        const A centered = products[c] - dy[c] * k.mean_residual;  // about the mean to twice the digits
        if (!global) sums_of(sample, c, weight_gradient(k, dy[c], centered), dy[c]);
        const A scale = per_sample ? call.parameters.weight.template at<A>(sample, c, 1) : A(1);
        total_dy[c] = total_dy[c] + scale * dy[c];
        total_products[c] = total_products[c] + scale * centered;
      }
    });
    if (synchronizer != nullptr) {
      synchronizer->merge_gradients(synchronizer->self, total_dy, total_products, channels);
    }
    for (Index c = 0; c < channels && !per_sample; ++c) {
      if (global)
        sums_of(0, c, weight_gradient(normalizers.at(first + c), total_dy[c], total_products[c]), total_dy[c]);
      const A scale = call.parameters.weight.template at<A>(0, c, 1);
      if (plain) {
        const Normalizer<A> k = normalizers.at(first + c);
        const A part = weight == A(0) ? A(0) : A(share / weight);
        // No value is farther than sqrt(n) standard deviations from the mean of n.
        const A std = k.inv_std == A(0) ? A(0) : A(A(1) / k.inv_std);
        const A deviation = k.offset == A(0) ? A(std * square_root(AlgebraPack<A>::One::all(weight)).v[0]) : A(0);
        set_plain_coefficients(k, scale * k.r * k.inv_std, total_dy[c] * part,
                               total_products[c] * part * k.inv_std * k.inv_std, deviation,
                               from_channel(plain_coefficients, c));
      }
      total_dy[c] = scale * total_dy[c];
      total_products[c] = scale * total_products[c];
    }

    for (Index c = 0; c < channels; ++c) {
      const Normalizer<A> k = normalizers.at(first + c);
      const A factor = weight == A(0) ? A(0) : A(share * k.r * k.inv_std / weight);
      const A slope = factor * total_products[c] * k.inv_std * k.inv_std;
      coefficients.mean()[c] = k.mean;
      coefficients.offset()[c] = factor * total_dy[c] + (k.offset - k.mean_residual) * slope;
      coefficients.slope()[c] = slope;
    }

    call.for_each_unit(group, [&](Index sample, const Box& box) {
      if (plain) {
        apply_gradients(device, box.view, Operands<T, 2>{{box.of(tensors.x), box.of(tensors.dy)}, {box.of(tensors.dx)}},
                        plain_coefficients);
        return;
      }
      set_forward(sample);
      for (Index c = 0; c < channels; ++c) {
        const Normalizer<A> k = normalizers.at(first + c);
        coefficients.scale()[c] = call.parameters.weight.template at<A>(sample, c, 1) * k.r * k.inv_std;
      }
      const Elements<T> nothing{nullptr, 0, 0};
      const Operands<T, 4, 2> operands{
          {box.of(tensors.x), box.of(tensors.dy), in_box(box, tensors.output), weights_in(box)},
          {box.of(tensors.dx), tensors.residual_grad.data == nullptr ? nothing : box.of(tensors.residual_grad)}};
      Work work = work_on<T>(device, box.view, 2);
      work.most_columns = half_max_columns<A>;
      write_elements(device, box.view, work, [&](const Tile& tile, const Prefetches& prefetches) {
        const Access access{should_stream(box.view, operands), prefetches};
        const auto of_tile = from_channel(coefficients, tile.channel_begin);
        const auto forward_of_tile = from_channel(recomputed, tile.channel_begin);
        if (settings.has_weights && !settings.is_mask && box.view.inner == 1) {
          return apply_runs(box.view, tile, of_tile, forward_of_tile, operands, settings, access);
        }
        if (!settings.is_mask) {
          return apply_weighted(box.view, tile, of_tile, forward_of_tile, operands, settings, access);
        }
        // What a mask lets through weighs 1, and what it does not is 0 whatever comes out.
        WeightedSettings<A> unmasked = settings;
        unmasked.has_weights = unmasked.is_mask = false;
        Operands<T, 4, 2> unweighted = operands;
        unweighted.in[3] = operands.in[0];
        apply_weighted(box.view, tile, of_tile, forward_of_tile, unweighted, unmasked, access);
        for (const Elements<T>& written : operands.out) {
          if (written.data != nullptr) clear_masked(box.view, tile, operands.in[3], written);
        }
      });
    });
  }

  /// Makes sums of dy and of dy (x - mean), [channels] each, the gradients of bias and weight.
  static void set_parameter_gradients(const NormalizerArrays<A>& normalizers, Index channels, const A* dy,
                                      A* products) {
    for (Index c = 0; c < channels; ++c) products[c] = weight_gradient(normalizers.at(c), dy[c], products[c]);
  }

 private:
  static A weight_gradient(const Normalizer<A>& k, const A& dy, const A& centered) {
    return k.r * (centered * k.inv_std) + k.d * dy;
  }

  // The coefficients of the plain kernel's dx, which is that of the weighted one for weights of 1:
  // ((dy - mean_dy) - (x - mean) * projection) * scale.
  static void set_plain_coefficients(const Normalizer<A>& k, const A& scale, const A& mean_dy, const A& projection,
                                     const A& max_deviation, const GradientArrays<A>& result) {
    // About the batch's own mean, from which x is not far: of mixed statistics k.mean lies elsewhere.
    const A mean = k.mean - k.offset;
    const A subtracted = k.mean - mean;
    *result.mean_dy() = mean_dy;
    *result.mean() = mean;
    *result.mean_residual() = k.mean_residual + ((k.mean - (mean + subtracted)) + (subtracted - k.offset));
    *result.projection() = projection;
    *result.scale() = scale;
    *result.max_deviation() = max_deviation;
  }

  // The coefficients of y for one channel.
  template <class P>
  static void set_coefficients(const Parameters<P>& parameters, Index sample, Index channel, const Normalizer<A>& k,
                               const NormalizeArrays<A>& result) {
    const A weight = parameters.weight.template at<A>(sample, channel, 1);
    *result.mean() = k.mean;
    *result.mean_residual() = k.mean_residual;
    *result.scale() = weight * k.r * k.inv_std;
    *result.shift() = weight * k.d + parameters.bias.template at<A>(sample, channel, 0);
  }

  // merge(c, moments, weight) takes the moments of a channel. Returns the weight.
  template <class MergeChannel>
  static A take_plain_moments(const AnyDevice& device, const View& view, const Elements<const T>& x,
                              const MergeChannel& merge_channel, Workspace<A>& workspace) {
    using One = typename AlgebraPack<A>::One;
    const A n = number<A>(view.values_per_channel());
    const One inverse_n = One::all(A(1) / n);
    accumulate_moments<summand_t<T>>(
        device, view, x, workspace,
        [&](Index first, Index count, const MomentSums<A>& sums, const NormalizeArrays<A>&) {
          for (Index c = 0; c < count; ++c) {
            const auto found =
                moments_of(One::all(sums.pivot()[c]), One::all(sums.sum()[c]), One::all(sums.squares()[c]), inverse_n);
            merge_channel(first + c, ChannelMoments<A>{found.mean.v[0], found.mean_residual.v[0], found.M2.v[0]}, n);
          }
        },
        NoPass());
    return n;
  }

  template <class MergeChannel>
  static A take_weighted_moments(const AnyDevice& device, const View& view, const Elements<const T>& x,
                                 const Elements<const T>& weights, const MergeChannel& merge_channel,
                                 Workspace<A>& workspace) {
    using One = typename AlgebraPack<A>::One;
    using Sums = WeightedMomentSums<A>;
    const PivotPlaces places = pivot_places(view, weights);
    const Elements<const T> tensors[] = {x, weights};
    const Isa isa = best_isa();
    A total(0);  // the same in every channel
    const auto accumulate = [&](const Tile& tile, const Prefetches& prefetches, const Sums& sums) {
      run_kernel<AccumulateWeightedMoments, T>(isa, view, tile, tensors, places, prefetches.x, sums);
    };
    const auto merge = [](const Sums& sums, Index, const Sums& more, Index, Index channels) {
      merge_sums(sums, more, channels);
    };
    const auto algebra = [&](Index first, Index count, const Sums& sums, const NormalizeArrays<A>&) {
      for (Index c = 0; c < count; ++c) {
        const A weight = sums.weight()[c];
        if (first + c == 0) total = weight;
        ChannelMoments<A> moments{A(0), A(0), A(0)};
        if (weight > A(0)) {
          const auto found = moments_of(One::all(sums.pivot()[c]), One::all(sums.sum()[c]), One::all(sums.squares()[c]),
                                        One::all(A(1) / weight));
          moments = {found.mean.v[0], found.mean_residual.v[0], found.M2.v[0]};
        }
        merge_channel(first + c, moments, weight);
      }
    };
    run_two_passes(device, view, work_of_sums<T>(device, view, tensors, true), false,
                   two_passes<Sums, NormalizeArrays<A>>(accumulate, merge, algebra, NoPass()), workspace);
    return total;
  }

  // Four positions of weight above 0, each the first such after an eighth, three, five and seven eighths of all.
  static PivotPlaces pivot_places(const View& view, const Elements<const T>& weights) {
    PivotPlaces result;
    const Index positions = view.values_per_channel();
    for (Index k = 0; k < 4; ++k) {
      const Index begin = (2 * k + 1) * positions / 8;
      for (Index n = 0; n < positions; ++n) {
        const Index at = (begin + n) % positions, o = at / view.inner, i = at - o * view.inner;
        if (!(load<Pack<A, 1, false>>(weights.at(o, 0, i)).v[0] > A(0))) continue;
        result.outer[result.count] = o;
        result.inner[result.count++] = i;
        break;
      }
      if (result.count == 0) break;
    }
    return result;
  }

  static void clear_masked(const View& view, const Tile& tile, const Elements<const T>& weights, const Elements<T>& y) {
    const T none(0);
    const Index n = tile.inner_end - tile.inner_begin;
    for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
      const T* const w = weights.at(o, 0, tile.inner_begin);
      Index masked = 0;
      for (Index i = 0; i < n; ++i) masked += w[i] == none ? 1 : 0;
      if (masked == 0) continue;
      if (view.inner == 1 && y.channel_stride == 1) {
        std::fill_n(y.at(o, tile.channel_begin, 0), tile.channels(), none);
        continue;
      }
      for (Index c = tile.channel_begin; c < tile.channel_end; ++c) {
        T* const row = y.at(o, c, tile.inner_begin);
        if (masked == n) {
          std::fill_n(row, n, none);
          continue;
        }
        for (Index i = 0; i < n; ++i) row[i] = w[i] == none ? none : row[i];
      }
    }
  }

  // Primitive 4 by weights, over a tile.
  static void apply_weighted(const View& view, const Tile& tile, const WeightedGradientArrays<A>& coefficients,
                             const NormalizeArrays<A>& forward, const Operands<T, 4, 2>& tensors,
                             const WeightedSettings<A>& settings, const Access& access) {
    run_elementwise(view, tile, tensors, [&](const View& v, const Tile& t, Index c, const Operands<T, 4, 2>& operands) {
      run_kernel<ApplyWeightedGradients, T>(best_isa(), v, t, from_channel(coefficients, c), from_channel(forward, c),
                                            operands, settings, access);
    });
  }

  // The same where all columns of a row have the same weight, by runs of rows of the same: they are in the
  // coefficients.
  static void apply_runs(const View& view, const Tile& tile, const WeightedGradientArrays<A>& coefficients,
                         const NormalizeArrays<A>& forward, const Operands<T, 4, 2>& tensors,
                         const WeightedSettings<A>& settings, const Access& access) {
    constexpr Index most = half_max_columns<A>;
    A memory[static_cast<std::size_t>(2 * most)];
    WeightedGradientArrays<A> scaled = coefficients;
    scaled.arrays[2] = memory;
    scaled.arrays[3] = memory + most;
    Operands<T, 4, 2> unweighted = tensors;
    unweighted.in[3] = tensors.in[0];
    for (Tile run = tile; run.outer_begin < tile.outer_end; run.outer_begin = run.outer_end) {
      const T w = *tensors.in[3].at(run.outer_begin, 0, 0);
      run.outer_end = run.outer_begin + 1;
      while (run.outer_end < tile.outer_end && *tensors.in[3].at(run.outer_end, 0, 0) == w) ++run.outer_end;
      const A weight = load<Pack<A, 1, false>>(&w).v[0];
      for (Index c = 0; c < tile.channels(); ++c) {
        scaled.offset()[c] = weight * coefficients.offset()[c];
        scaled.slope()[c] = weight * coefficients.slope()[c];
      }
      WeightedSettings<A> of_run = settings;
      of_run.has_weights = false;
      of_run.fused.constant = settings.fused.constant || weight == A(0);  // so that no x matters
      apply_weighted(view, run, scaled, forward, unweighted, of_run, access);
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_EXTENDED_HPP
