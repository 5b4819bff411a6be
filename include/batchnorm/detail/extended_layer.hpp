// The layer's calls that need the extended passes: what they check, which statistics they take, and what they leave.

#ifndef BATCHNORM_DETAIL_EXTENDED_LAYER_HPP
#define BATCHNORM_DETAIL_EXTENDED_LAYER_HPP

#include "batchnorm/detail/extended.hpp"
#include "batchnorm/detail/layer_backward.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The extended calls of a layer by pointers: a layer that makes none has them not compiled.
template <class T, int Dims>
struct ExtendedTable {
  using Layer = detail::Layer<T, Dims>;
  using Input = typename Layer::Input;
  using Output = typename Layer::Output;
  void (*forward)(Layer&, const AnyDevice&, int layout, const Input& x, const Output& y, const ForwardExtras<T, Dims>&);
  void (*infer)(const Layer&, const AnyDevice&, int layout, const Input& x, const Output& y,
                const ForwardExtras<T, Dims>&);
  void (*backward)(Layer&, const AnyDevice&, int layout, const Input& x, const Input& dy, const Output& dx,
                   const typename Layer::Saved& forward, const BackwardExtras<T, Dims>&);
};

template <class T, int Dims>
struct ExtendedLayer {
  using Layer = detail::Layer<T, Dims>;
  using Input = typename Layer::Input;
  using Output = typename Layer::Output;
  using Saved = typename Layer::Saved;
  using Writer = typename Layer::Writer;
  using A = accumulator_t<T>;
  using Param = param_t<T>;
  using Passes = ExtendedPasses<T>;
  using Call = ExtendedCall<T>;
  using GroupWeight = typename Passes::GroupWeight;

  static void forward(Layer& layer, const AnyDevice& device, int layout, const Input& x, const Output& y,
                      const ForwardExtras<T, Dims>& extras) {
    const Writer write = layer.checked_writer(layout, x, y, extras);
    Call call = call_of(layer, layout, x.shape, write, extras);
    ExtendedScratch<A>& scratch = layer.extended_scratch;
    weigh_groups(call, scratch);
    scratch.own_weight = scratch.weight;
    const bool synchronized = layer.synchronizer.get() != nullptr && layer.takes_batch();
    if (synchronized) merge_batch(layer, device, call, write.x());
    const Index values = least_values(scratch);
    const StatisticsKind kind = statistics_for(layer.normalize_with, layer.learns(), layer.options, values, x.shape);
    const bool update = layer.updates_from(values);
    if (update) check_weights(layer, scratch);
    if (layer.check_backward) layer.keep_sums(device, layout, write.view, write.x());

    Saved& saved = layer.scratch.saved;
    const Index channels = layer.channels();
    const Index groups = synchronized || kind == StatisticsKind::running ? 1 : call.groups();
    if (saved.mean_.size() != groups * channels) saved.resize(groups * channels, layer.kept_parameters());
    const bool renorm = layer.options.renorm() && layer.training && kind == StatisticsKind::batch;
    const NormalizerArrays<A> normalizers = arrays_of(saved, groups * channels, kind, renorm);
    Pooled pooled(scratch, update ? channels : 0);
    Index clipped = 0;
    if (write.view.size() != 0 || synchronized) {
      normalize_groups(
          layer, device, call, write, kind, scratch, update, synchronized, layer.workspace,
          [&](Index i, const Normalizer<A>& k) { normalizers.set(i, k); }, [&](Index i) { return normalizers.at(i); },
          [&](Index group, const MomentArrays<A>& moments) {
            if (update) pooled.add(moments, scratch.weight[static_cast<std::size_t>(group)], layer.options);
          },
          [&](Index c, Normalizer<A>& k, const A& variance) {
            if (renorm && renormalize(k, layer.running_mean(c), layer.running_var(c), variance, layer.options.epsilon(),
                                      layer.options.renorm_r_max(), layer.options.renorm_d_max())) {
              ++clipped;
            }
          });
    }
    saved.shape_ = x.shape;
    saved.kind_ = kind;
    saved.has_forward_ = true;
    saved.has_residual_ = extras.has_residual;
    saved.has_sums_ = layer.check_backward && write.view.size() != 0;
    saved.extended_.used = true;
    saved.extended_.groups = groups;
    saved.extended_.group_samples = kind == StatisticsKind::running ? call.samples.count : call.group_samples;
    saved.extended_.weights = call.weights.kind;
    saved.extended_.has_affine = extras.parameters != nullptr;
    saved.extended_.synchronized = synchronized && kind != StatisticsKind::running;
    keep_weights(call, kind, layer, scratch, saved.extended_);
    if (layer.fused != nullptr) layer.keep_parameters();
    if (renorm) layer.clipped_share = static_cast<double>(clipped) / static_cast<double>(groups * channels);
    if (update && layer.collector.get() != nullptr) {
      Index all = 0;
      for (const Index of_group : scratch.values) all += of_group;
      MomentsAccess::add(*layer.collector.get(), all, pooled.weight,
                         [&](Eigen::Index c) { return pooled.moments.at(static_cast<Index>(c)); });
    } else if (update) {
      layer.update_running_stats(scratch.mean.data(), [&](auto type, Index c) {
        return load<typename decltype(type)::Pack>(scratch.variance.data() + c);
      });
    }
    layer.saved.swap(saved);
    make_room(layer.saved, saved, layer.kept_parameters());
    layer.extended = &table;  // for a backward that is handed less than it needs
  }

  static void infer(const Layer& layer, const AnyDevice& device, int layout, const Input& x, const Output& y,
                    const ForwardExtras<T, Dims>& extras) {
    const Writer write = layer.checked_writer(layout, x, y, extras);
    const Call call = call_of(layer, layout, x.shape, write, extras);
    const bool running = layer.options.track_running_stats() &&
                         (!layer.normalize_with.has_value() || *layer.normalize_with == Statistics::running);
    ExtendedScratch<A> scratch;
    if (!running) weigh_groups(call, scratch);
    const StatisticsKind kind =
        statistics_for(layer.normalize_with, false, layer.options, least_values(scratch), x.shape);
    if (write.view.size() == 0) return;
    if (kind == StatisticsKind::running) {
      return write_running(layer, device, call, write);
    }
    const Index channels = layer.channels();
    std::vector<A> memory(static_cast<std::size_t>(3 * channels));  // of a group
    const auto arrays = quantities_in<MomentArrays<A>>(memory.data(), channels);
    const NormalizerArrays<A> normalizers{arrays.mean(), arrays.mean_residual(), arrays.M2()};
    Workspace<A> workspace;
    normalize_groups(
        layer, device, call, write, kind, scratch, false, false, workspace,
        [&](Index i, const Normalizer<A>& k) { normalizers.set(i % channels, k); },
        [&](Index i) { return normalizers.at(i % channels); }, [](Index, const MomentArrays<A>&) {},
        [](Index, Normalizer<A>&, const A&) {});
  }

  static void backward(Layer& layer, const AnyDevice& device, int layout, const Input& x, const Input& dy,
                       const Output& dx, const Saved& forward, const BackwardExtras<T, Dims>& extras) {
    check_handed(forward, extras);
    const GradientTensors<T> tensors = layer.checked_gradient(device, layout, x, dy, dx, forward, extras);
    const Index channels = layer.channels();
    Call call{tensors.view,
              Samples::of(tensors.view, x.shape, layout, layer.axis),
              forward.extended_.group_samples,
              {},
              parameters_of(layer, extras.parameters),
              nullptr,
              layer.settings()};
    if (extras.weights != nullptr) call.weights = *extras.weights;
    call.settings.has_output = tensors.output.data != nullptr;
    weigh_groups(call, layer.extended_scratch);
    check_same_weights(forward, layer.extended_scratch);
    const bool own = extras.parameters == nullptr;
    A *const dweight = layer.scratch.dweight.data(), *const dbias = layer.scratch.dbias.data();
    std::fill_n(dweight, channels, A(0));
    std::fill_n(dbias, channels, A(0));
    const Parameters<Param> grads = extras.parameter_grads == nullptr ? Parameters<Param>{} : *extras.parameter_grads;
    const bool each_weight = grads.weight.sample_stride != 0, each_bias = grads.bias.sample_stride != 0;
    for (Index s = 0; s < call.samples.count; ++s) {
      for (Index c = 0; each_weight && c < channels; ++c) grads.weight.ref(s, c) = Param(0);
      for (Index c = 0; each_bias && c < channels; ++c) grads.bias.ref(s, c) = Param(0);
    }
    const Synchronizer<A>* const synchronizer = forward.extended_.synchronized ? layer.synchronizer.get() : nullptr;
    if (forward.extended_.synchronized && synchronizer == nullptr) {
      fail<std::logic_error>("expected saved statistics of this layer, got those of a batch over several processes");
    }
    const bool global = synchronizer != nullptr && synchronizer->sums_parameter_grads && own;
    if (tensors.view.size() == 0 && synchronizer != nullptr) {
      synchronizer->merge_gradients(synchronizer->self, dbias, dweight, channels);
      if (global) {
        Passes::set_parameter_gradients(arrays_of(forward), channels, dbias, dweight);
      } else {
        std::fill_n(dweight, channels, A(0));
        std::fill_n(dbias, channels, A(0));
      }
    }
    if (tensors.view.size() != 0) {
      const NormalizerArrays<A> normalizers = arrays_of(forward);
      for (Index g = 0; g < call.groups(); ++g) {
        const auto group = static_cast<std::size_t>(g);
        const auto run = [&](const auto& forward_parameters) {
          Passes::backward(
              device, call, g, tensors, normalizers, forward.extended_.group_weight[group],
              forward.extended_.share[group], forward.constant(), synchronizer, global, forward_parameters,
              [&](Index sample, Index c, const A& of_weight, const A& of_bias) {
                if (each_weight) add(grads.weight.ref(sample, c), of_weight);
                if (each_bias) add(grads.bias.ref(sample, c), of_bias);
                dweight[c] = dweight[c] + of_weight;
                dbias[c] = dbias[c] + of_bias;
              },
              layer.workspace, layer.forward_workspace);
        };
        if (!own) {
          run(call.parameters);
        } else {
          run(Parameters<const A>{{forward.weight_.size() == 0 ? nullptr : forward.weight_.data()},
                                  {forward.bias_.size() == 0 ? nullptr : forward.bias_.data()}});
        }
      }
    }
    if (own) {
      if (tensors.view.size() != 0 || global) layer.add_parameter_gradients();
      return;
    }
    for (Index c = 0; c < channels; ++c) {
      if (grads.weight.data != nullptr && !each_weight) grads.weight.ref(0, c) = static_cast<Param>(dweight[c]);
      if (grads.bias.data != nullptr && !each_bias) grads.bias.ref(0, c) = static_cast<Param>(dbias[c]);
    }
  }

  static constexpr ExtendedTable<T, Dims> table{forward, infer, backward};

  /// Whether the backward of these statistics is one of several processes.
  static bool is_synchronized(const Saved& saved) { return saved.has_forward_ && saved.extended_.synchronized; }

 private:
  // The statistics of the groups together, as they enter the running ones: the mean of all values, and the mean of the
  // groups' variances.
  struct Pooled {
    ExtendedScratch<A>& scratch;
    MomentArrays<A> moments{};
    A weight = A(0);

    Pooled(ExtendedScratch<A>& memory, Index channels) : scratch(memory) {
      for (auto* values : {&scratch.mean, &scratch.variance}) values->assign(static_cast<std::size_t>(channels), A(0));
      scratch.pooled.assign(static_cast<std::size_t>(MomentArrays<A>::count * channels), A(0));
      moments = quantities_in<MomentArrays<A>>(scratch.pooled.data(), channels);
    }

    void add(const MomentArrays<A>& group, const A& group_weight, const BatchNormOptions& options) {
      using One = typename AlgebraPack<A>::One;
      if (group_weight == A(0)) return;
      const A all = weight + group_weight, share = group_weight / all;
      for (std::size_t c = 0; c < scratch.mean.size(); ++c) {
        const auto more = group.at(static_cast<Index>(c));
        ChannelMoments<A> total = moments.at(static_cast<Index>(c));
        merge_moments(total, weight, more, group_weight);
        moments.set(static_cast<Index>(c), total);
        scratch.mean[c] = total.mean;
        const A found = variance_of(One::all(more.M2), group_weight, options.running_variance()).v[0];
        A& variance = scratch.variance[c];
        variance = weight == A(0) ? found : A(variance + (found - variance) * share);
      }
      weight = all;
    }
  };

  static void add(Param& total, const A& more) { total = static_cast<Param>(A(total) + more); }

  static Call call_of(const Layer& layer, int layout, const Shape<Dims>& shape, const Writer& write,
                      const ForwardExtras<T, Dims>& extras) {
    const Samples samples = Samples::of(write.view, shape, layout, layer.axis);
    const Index asked = layer.options.virtual_batch_size(), all = (std::max)(Index(1), samples.count);
    Call call{write.view,
              samples,
              asked == 0 ? all : (std::min)(static_cast<Index>(asked), all),
              {},
              parameters_of(layer, extras.parameters),
              write.kernels,
              write.settings};
    if (extras.weights != nullptr) call.weights = *extras.weights;
    return call;
  }

  static Parameters<const Param> parameters_of(const Layer& layer, const Parameters<const Param>* given) {
    if (given != nullptr) return *given;
    const auto own = layer.affine(0);
    return {{own.weight}, {own.bias}};
  }

  static void weigh_groups(const Call& call, ExtendedScratch<A>& scratch) {
    const auto groups = static_cast<std::size_t>(call.view.size() == 0 ? 0 : call.groups());
    scratch.values.resize(groups);
    scratch.weight.resize(groups);
    scratch.samples.resize(groups);
    for (std::size_t g = 0; g < groups; ++g) {
      const GroupWeight weight = Passes::weight_of(call, static_cast<Index>(g));
      scratch.values[g] = weight.positive;
      scratch.weight[g] = weight.total;
      scratch.samples[g] = call.end_of(static_cast<Index>(g)) - call.begin_of(static_cast<Index>(g));
    }
  }

  // The moments and weights of a batch of which this is one process's part. It is one group.
  static void merge_batch(Layer& layer, const AnyDevice& device, const Call& call, const Elements<const T>& x) {
    ExtendedScratch<A>& scratch = layer.extended_scratch;
    const Index channels = layer.channels();
    scratch.moments.assign(static_cast<std::size_t>(MomentArrays<A>::count * channels), A(0));
    BatchTotals<A> totals{channels, 0, 0, A(0), quantities_in<MomentArrays<A>>(scratch.moments.data(), channels)};
    if (call.view.size() != 0) {
      Passes::take_moments(device, call, 0, x, totals.moments, layer.workspace);
      totals.values = scratch.values[0];
      totals.samples = scratch.samples[0];
      totals.weight = scratch.weight[0];
    } else {
      scratch.own_weight.assign(1, A(0));
    }
    const Synchronizer<A>& synchronizer = *layer.synchronizer.get();
    synchronizer.merge_moments(synchronizer.self, totals);
    scratch.values.assign(1, totals.values);
    scratch.samples.assign(1, totals.samples);
    scratch.weight.assign(1, totals.weight);
  }

  // Of the groups that have any, the fewest values per channel that take part; 0 where there are none.
  static Index least_values(const ExtendedScratch<A>& scratch) {
    Index result = 0;
    for (const Index values : scratch.values) {
      if (values != 0 && (result == 0 || values < result)) result = values;
    }
    return result;
  }

  static void check_weights(const Layer& layer, const ExtendedScratch<A>& scratch) {
    if (layer.options.running_variance() == Variance::biased) return;
    for (std::size_t g = 0; g < scratch.values.size(); ++g) {
      require(scratch.values[g] < 2 || scratch.weight[g] > A(1),
              "expected sample weights that count samples, with a sum above 1, for an unbiased running variance, got a "
              "sum of at most 1 (see BatchNormOptions::running_variance)");
    }
  }

  // Sums of the same weights in the same order are the same.
  static void check_same_weights(const Saved& forward, const ExtendedScratch<A>& scratch) {
    if (forward.extended_.weights == WeightKind::none) return;
    for (std::size_t g = 0; g < scratch.weight.size(); ++g) {
      if (!(scratch.weight[g] == forward.extended_.own_weight[g])) {
        fail<std::logic_error>("expected the ", name_of(forward.extended_.weights),
                               " of the forward, got another, of another sum");
      }
    }
  }

  static const char* name_of(WeightKind kind) { return kind == WeightKind::mask ? "mask" : "sample weights"; }

  static void check_handed(const Saved& forward, const BackwardExtras<T, Dims>& extras) {
    if (!forward.has_forward()) fail<std::logic_error>("expected a forward before backward, got none");
    const ExtendedStatistics<A>& saved = forward.extended_;
    const WeightKind had = saved.used ? saved.weights : WeightKind::none;
    const WeightKind got = extras.weights == nullptr ? WeightKind::none : extras.weights->kind;
    if (had != got) {
      const auto tag = [](WeightKind kind) {
        return kind == WeightKind::none   ? "neither mask(m) nor sample_weight(w)"
               : kind == WeightKind::mask ? "mask(m)"
                                          : "sample_weight(w)";
      };
      fail<std::logic_error>("expected ", tag(had), " in backward, as in its forward, got ", tag(got));
    }
    if ((saved.used && saved.has_affine) != (extras.parameters != nullptr)) {
      const auto tag = [](bool has) { return has ? "affine(weight, bias)" : "no affine(weight, bias)"; };
      fail<std::logic_error>("expected ", tag(extras.parameters == nullptr), " in backward, as in its forward, got ",
                             tag(extras.parameters != nullptr));
    }
  }

  // Where the statistics of a forward go.
  static NormalizerArrays<A> arrays_of(Saved& saved, Index size, StatisticsKind kind, bool renorm) {
    ExtendedStatistics<A>& more = saved.extended_;
    more.offset.resize(static_cast<std::size_t>(kind == StatisticsKind::mixed ? size : 0));
    more.r.resize(static_cast<std::size_t>(renorm ? size : 0));
    more.d.resize(more.r.size());
    return arrays_of(saved);
  }
  // Written to only where the object is not const.
  static NormalizerArrays<A> arrays_of(const Saved& saved) {
    const auto all = saved.arrays();
    const auto some = [](const std::vector<A>& values) {
      return values.empty() ? nullptr : const_cast<A*>(values.data());
    };
    const ExtendedStatistics<A>& more = saved.extended_;
    return {all.mean(), all.mean_residual(), all.inv_std(), some(more.offset), some(more.r), some(more.d)};
  }

  // As much in the statistics that the next forward will write, so that it allocates nothing.
  static void make_room(const Saved& like, Saved& next, Index parameters) {
    if (next.mean_.size() != like.mean_.size()) next.resize(like.mean_.size(), parameters);
    const auto reserve = [](std::vector<A>& values, const std::vector<A>& as) { values.reserve(as.size()); };
    reserve(next.extended_.offset, like.extended_.offset);
    reserve(next.extended_.r, like.extended_.r);
    reserve(next.extended_.d, like.extended_.d);
    reserve(next.extended_.group_weight, like.extended_.group_weight);
    reserve(next.extended_.share, like.extended_.share);
    reserve(next.extended_.own_weight, like.extended_.own_weight);
  }

  // The share of a group's own statistics in what normalizes it.
  static A share_of(const Layer& layer, const ExtendedScratch<A>& scratch, StatisticsKind kind, Index group) {
    if (kind != StatisticsKind::mixed) return A(kind == StatisticsKind::batch ? 1 : 0);
    const A n = number<A>(scratch.samples[static_cast<std::size_t>(group)]);
    return n / (number<A>(layer.normalize_with->prior_count()) + n);
  }

  static void keep_weights(const Call& call, StatisticsKind kind, const Layer& layer, const ExtendedScratch<A>& scratch,
                           ExtendedStatistics<A>& saved) {
    saved.group_weight.assign(1, A(0));
    saved.share.assign(1, A(0));
    saved.own_weight.assign(1, A(0));
    if (kind == StatisticsKind::running) {
      if (call.view.size() != 0) saved.own_weight[0] = Passes::weight_of(whole(call), 0).total;
      saved.group_weight[0] = saved.own_weight[0];
      return;
    }
    saved.own_weight.assign(scratch.own_weight.begin(), scratch.own_weight.end());
    saved.group_weight.assign(scratch.weight.begin(), scratch.weight.end());
    saved.share.resize(scratch.weight.size());
    for (std::size_t g = 0; g < saved.share.size(); ++g) {
      saved.share[g] = share_of(layer, scratch, kind, static_cast<Index>(g));
    }
  }

  // The call with all samples in one group.
  static Call whole(Call call) {
    call.group_samples = call.samples.count;
    return call;
  }

  static void write_running(const Layer& layer, const AnyDevice& device, const Call& call, const Writer& write) {
    Passes::write(device, whole(call), 0, write.x(), write.fused_tensors.in[1], write.x_to_y.out[0], [&](Index c) {
      return running_normalizer<A>(layer.running_mean(c), layer.running_var(c), layer.options.epsilon());
    });
  }

  // set(i, normalizer) and get(i) store and read that of group * channels + channel; pool(group, moments) takes those
  // of a group, and adjust(c, normalizer, variance) may change what normalizes a channel.
  template <class Set, class Get, class Pool, class Adjust>
  static void normalize_groups(const Layer& layer, const AnyDevice& device, const Call& call, const Writer& write,
                               StatisticsKind kind, ExtendedScratch<A>& scratch, bool pools, bool has_moments,
                               Workspace<A>& workspace, const Set& set, const Get& get, const Pool& pool,
                               const Adjust& adjust) {
    const Index channels = layer.channels();
    const double epsilon = layer.options.epsilon();
    const bool running = kind == StatisticsKind::running;
    scratch.moments.resize(static_cast<std::size_t>(MomentArrays<A>::count * channels));
    const auto moments = quantities_in<MomentArrays<A>>(scratch.moments.data(), channels);
    const auto groups = static_cast<Index>(scratch.weight.size());
    for (Index g = 0; g < groups && (pools || !running); ++g) {
      if (!has_moments) Passes::take_moments(device, call, g, write.x(), moments, workspace);
      pool(g, moments);
      if (running) continue;
      const A weight = scratch.weight[static_cast<std::size_t>(g)], share = share_of(layer, scratch, kind, g);
      for (Index c = 0; c < channels; ++c) {
        const ChannelMoments<A> found = moments.at(c);
        Normalizer<A> k = kind == StatisticsKind::mixed ? mixed_normalizer(found, weight, share, layer.running_mean(c),
                                                                           layer.running_var(c), epsilon)
                                                        : batch_normalizer(found, weight, epsilon);
        if (!(weight == A(0))) adjust(c, k, found.M2 / weight);
        set(g * channels + c, k);
      }
      if (call.view.size() == 0) continue;
      Passes::write(device, call, g, write.x(), write.fused_tensors.in[1], write.x_to_y.out[0],
                    [&](Index c) { return get(g * channels + c); });
    }
    if (!running) return;
    for (Index c = 0; c < channels; ++c) {
      set(c, running_normalizer<A>(layer.running_mean(c), layer.running_var(c), epsilon));
    }
    if (call.view.size() != 0) write_running(layer, device, call, write);
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_EXTENDED_LAYER_HPP
