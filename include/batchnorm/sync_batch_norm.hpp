// Batch normalization of one batch that is split over processes.

#ifndef BATCHNORM_SYNC_BATCH_NORM_HPP
#define BATCHNORM_SYNC_BATCH_NORM_HPP

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "batchnorm/batch_norm.hpp"
#include "batchnorm/communicator.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// From so many ranks on, channels are merged by their owners: of more, what each gathers of all the others is larger
/// than what two exchanges of its own share are. A program may specialize it for its communicator.
template <class Communicator>
inline constexpr int most_ranks_gathered = 64;

/// One pass's exchange between the processes.
///
/// Each contributes a header and K numbers for each channel. All gather everything and merge it in the order of the
/// ranks, so that the result has the same bits everywhere. Of many ranks each merges the channels that it owns, and all
/// gather the outcome: the same merges, and so the same bits.
template <class Communicator>
class Exchange {
 public:
  static constexpr std::size_t header = 4;  // failed, and what the pass adds

  explicit Exchange(const Communicator& communicator) : communicator_(communicator) {}

  const Communicator& communicator() const { return communicator_; }

  /// Whether the pass under way has entered its exchange.
  bool entered() const { return entered_; }
  void begin() { entered_ = false; }

  /// Enters the exchange of a pass with no more than the news that this process failed.
  void fail(std::size_t numbers, Index channels) {
    const double failed[header] = {1, 0, 0, 0};
    const std::vector<double> nothing(numbers * static_cast<std::size_t>(channels), 0.0);
    start(failed, nothing.data(), numbers, channels);
  }

  /// Exchanges `numbers` arrays of [channels] each. merge(headers, parts, n, out) merges n channels: parts[r] is what
  /// rank r contributes of them, numbers arrays of [n], and out is for arrays of the same kind; headers[r] is rank r's.
  /// The merged arrays come back in `mine`. Throws std::runtime_error where a process failed.
  template <class Merge>
  void run(const double (&mine_header)[header], double* mine, std::size_t numbers, Index channels, const Merge& merge) {
    start(mine_header, mine, numbers, channels);
    const auto ranks = static_cast<std::size_t>(communicator_.size());
    headers_.resize(ranks);
    parts_.resize(ranks);
    const std::size_t each = header + numbers * static_cast<std::size_t>(part_);
    for (std::size_t r = 0; r < ranks; ++r) {
      headers_[r] = received_.data() + r * each;
      parts_[r] = headers_[r] + header;
    }
    for (std::size_t r = 0; r < ranks; ++r) {
      if (headers_[r][0] > 0) {
        detail::fail<std::runtime_error>("expected a forward or backward on every process, got an error on rank ", r,
                                         ", which tells there what is wrong");
      }
    }
    if (!by_owners()) {
      merge(headers_, parts_, part_, mine);
      return;
    }
    merged_.resize(numbers * static_cast<std::size_t>(part_));
    merge(headers_, parts_, part_, merged_.data());
    received_.resize(ranks * merged_.size());
    communicator_.all_gather(merged_.data(), merged_.size(), received_.data());
    for (std::size_t r = 0; r < ranks; ++r) {
      const Index first = static_cast<Index>(r) * part_, count = (std::min)(part_, channels - first);
      for (std::size_t k = 0; k < numbers && count > 0; ++k) {
        std::copy_n(received_.data() + r * merged_.size() + k * static_cast<std::size_t>(part_), count,
                    mine + static_cast<Index>(k) * channels + first);
      }
    }
  }

 private:
  bool by_owners() const {
    return has_all_to_all<Communicator> && communicator_.size() > most_ranks_gathered<Communicator>;
  }

  // What every process sends first, whatever it is to become of it.
  void start(const double (&mine_header)[header], const double* mine, std::size_t numbers, Index channels) {
    entered_ = true;
    const auto ranks = static_cast<std::size_t>(communicator_.size());
    if (!by_owners()) {
      part_ = channels;
      const std::size_t each = header + numbers * static_cast<std::size_t>(channels);
      sent_.resize(each);
      received_.resize(ranks * each);
      std::copy_n(mine_header, header, sent_.data());
      std::copy_n(mine, numbers * static_cast<std::size_t>(channels), sent_.data() + header);
      communicator_.all_gather(sent_.data(), each, received_.data());
      return;
    }
    if constexpr (has_all_to_all<Communicator>) {
      part_ = ceil_div(channels, static_cast<Index>(ranks));
      const std::size_t each = header + numbers * static_cast<std::size_t>(part_);
      sent_.assign(ranks * each, 0.0);
      received_.resize(ranks * each);
      for (std::size_t r = 0; r < ranks; ++r) {
        double* const to = sent_.data() + r * each;
        std::copy_n(mine_header, header, to);
        const Index first = static_cast<Index>(r) * part_, count = (std::min)(part_, channels - first);
        for (std::size_t k = 0; k < numbers && count > 0; ++k) {
          std::copy_n(mine + static_cast<Index>(k) * channels + first, count,
                      to + header + k * static_cast<std::size_t>(part_));
        }
      }
      communicator_.all_to_all(sent_.data(), each, received_.data());
    }
  }

  Communicator communicator_;
  bool entered_ = false;
  Index part_ = 0;  // channels that are merged here
  std::vector<double> sent_{}, received_{}, merged_{};
  std::vector<const double*> headers_{}, parts_{};
};

/// The merges of a layer's two passes, which are in A = double.
template <class Communicator>
class Merges {
 public:
  explicit Merges(const Communicator& communicator) : exchange_(communicator) {
    synchronizer_.self = this;
    synchronizer_.merge_moments = [](void* self, BatchTotals<double>& totals) {
      static_cast<Merges*>(self)->merge_moments(totals);
    };
    synchronizer_.merge_gradients = [](void* self, double* dy, double* products, Index channels) {
      static_cast<Merges*>(self)->merge_gradients(dy, products, channels);
    };
  }
  // Of copies each points to itself.
  Merges(const Merges& other) : Merges(other.exchange_.communicator()) { copy_settings(other); }
  Merges& operator=(const Merges& other) {
    exchange_ = other.exchange_;
    copy_settings(other);
    return *this;
  }
  ~Merges() = default;

  Exchange<Communicator>& exchange() { return exchange_; }
  const Communicator& communicator() const { return exchange_.communicator(); }
  Synchronizer<double>& synchronizer() { return synchronizer_; }
  const Synchronizer<double>& synchronizer() const { return synchronizer_; }

  static constexpr std::size_t moment_numbers = 3, gradient_numbers = 2;  // of each channel

 private:
  void copy_settings(const Merges& other) {
    synchronizer_.sums_parameter_grads = other.synchronizer_.sums_parameter_grads;
  }

  // Chan, Golub and LeVeque's merge in the order of the ranks.
  void merge_moments(BatchTotals<double>& totals) {
    const double mine[4] = {0, totals.weight, static_cast<double>(totals.values), static_cast<double>(totals.samples)};
    double all[3] = {0, 0, 0};
    memory_.resize(moment_numbers * static_cast<std::size_t>(totals.channels));
    for (Index c = 0; c < totals.channels; ++c) set(memory_.data(), totals.channels, c, totals.moments.at(c));
    exchange_.run(
        mine, memory_.data(), moment_numbers, totals.channels,
        [&](const std::vector<const double*>& headers, const std::vector<const double*>& parts, Index n, double* out) {
          std::fill_n(all, 3, 0.0);
          for (const double* const header : headers) {
            for (int k = 0; k < 3; ++k) all[k] += header[1 + k];
          }
          for (Index c = 0; c < n; ++c) {
            ChannelMoments<double> total{0, 0, 0};
            double weight = 0;
            for (std::size_t r = 0; r < parts.size(); ++r) {
              const ChannelMoments<double> more{parts[r][c], parts[r][n + c], parts[r][2 * n + c]};
              merge_moments_of(total, weight, more, headers[r][1]);
            }
            set(out, n, c, total);
          }
        });
    totals.weight = all[0];
    totals.values = static_cast<Index>(all[1]);
    totals.samples = static_cast<Index>(all[2]);
    for (Index c = 0; c < totals.channels; ++c) {
      const double* const m = memory_.data() + c;
      totals.moments.set(c, {m[0], m[totals.channels], m[2 * totals.channels]});
    }
  }

  static void merge_moments_of(ChannelMoments<double>& total, double& weight, const ChannelMoments<double>& more,
                               double more_weight) {
    detail::merge_moments(total, weight, more, more_weight);
    weight += more_weight;
  }

  static void set(double* arrays, Index n, Index c, const ChannelMoments<double>& moments) {
    arrays[c] = moments.mean;
    arrays[n + c] = moments.mean_residual;
    arrays[2 * n + c] = moments.M2;
  }

  // The sums of all processes are about the one mean of the whole batch, so that they add.
  void merge_gradients(double* dy, double* products, Index channels) {
    memory_.resize(gradient_numbers * static_cast<std::size_t>(channels));
    std::copy_n(dy, channels, memory_.data());
    std::copy_n(products, channels, memory_.data() + channels);
    const double mine[4] = {0, 0, 0, 0};
    exchange_.run(mine, memory_.data(), gradient_numbers, channels,
                  [](const std::vector<const double*>&, const std::vector<const double*>& parts, Index n, double* out) {
                    for (Index i = 0; i < static_cast<Index>(gradient_numbers) * n; ++i) {
                      double sum = 0, lost = 0;  // Knuth's TwoSum: many ranks' sums lose no more than one's
                      for (const double* const part : parts) {
                        const double next = sum + part[i], added = next - sum;
                        lost += (sum - (next - added)) + (part[i] - added);
                        sum = next;
                      }
                      out[i] = sum + (sum - sum == 0 ? lost : 0);
                    }
                  });
    std::copy_n(memory_.data(), channels, dy);
    std::copy_n(memory_.data() + channels, channels, products);
  }

  Exchange<Communicator> exchange_;
  Synchronizer<double> synchronizer_{};
  std::vector<double> memory_{};
};

/// A 32-bit number of what all processes' layers must have in common (FNV-1a).
inline std::uint32_t hash_of(const BatchNormOptions& options) {
  std::uint32_t hash = 2166136261u;
  const auto add = [&hash](double value) {
    unsigned char bytes[sizeof(value)];
    std::memcpy(bytes, &value, sizeof(value));
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 16777619u;
  };
  add(options.epsilon());
  add(options.momentum().value_or(-1));
  add(options.scale());
  add(options.shift());
  add(options.track_running_stats());
  add(static_cast<double>(options.running_variance()));
  add(static_cast<double>(options.single_value()));
  add(options.activation().slope());
  return hash;
}

}  // namespace detail

/// Batch normalization of one batch that is split over processes: the layer of this interface on every process, each
/// with its part of the batch, gives what one BatchNorm gives for the whole.
///
///     batchnorm::MpiCommunicator world(MPI_COMM_WORLD);
///     batchnorm::SyncBatchNorm<float, 4, batchnorm::MpiCommunicator> bn(64, world);
///     auto y = bn.forward(x);        // collective in training: every process calls it
///     auto dx = bn.backward(x, dy);  // likewise
///     auto z = bn.infer(x);          // not collective
///
/// Moments are merged between the two passes of a forward, and the sums of dy and dy (x - mean) between those of a
/// backward, each in one exchange, in double and in the order of the ranks: the results are those of the whole batch to
/// the last digits at any mean, have the same bits on every process, and are the same from run to run. Parts may differ
/// in size and shape, and may be empty; an empty one takes part in the exchanges. Running statistics are updated alike
/// on every process. weight_grad() and bias_grad() are those of the process's own part, as PyTorch's SyncBatchNorm
/// leaves them, to be summed with the other gradients of the network, unless sum_parameter_grads(true) asks for those
/// of the whole.
///
/// All processes call forward and backward alike, in the same mode and with the same switches. Where a call fails on
/// one of them, for a wrong shape, say, that one throws what it throws anywhere and all the others throw
/// std::runtime_error: none waits for it. `infer` is inference by the running statistics, without any exchange.
///
/// It takes what BatchNorm takes, with the same bits on any number of threads: activations, residuals, masks, weights,
/// parameters of the call, frozen and mixed statistics, tensors and matrices. It does not take ghost batches, which are
/// the opposite, nor renormalization, nor scalars whose sums are not in double. The number of channels is given at
/// construction.
///
/// `Communicator` is a class with rank(), size() and all_gather(mine, n, all): SingleProcess, ThreadCommunicator,
/// MpiCommunicator, or one of your own (communicator.hpp).
template <class T, int Dims, class Communicator>
class SyncBatchNorm : private BatchNorm<T, Dims> {
  using Base = BatchNorm<T, Dims>;
  static_assert(detail::check_communicator_type<Communicator>(), "the check has said what is wrong");
  // In place of what is none, so that no other error follows.
  using Checked = std::conditional_t<detail::is_communicator<Communicator>, Communicator, SingleProcess>;
  static_assert(std::is_same_v<typename Base::Accumulator, double>,
                "batchnorm: SyncBatchNorm exchanges doubles: T is float, double, Eigen::half or Eigen::bfloat16");

 public:
  using typename Base::Accumulator;
  using typename Base::Index;
  using typename Base::Param;
  using typename Base::RunningStatistics;
  using typename Base::SavedStatistics;
  using typename Base::Scalar;
  using typename Base::Vector;

  /// A layer as BatchNorm(options), on every process of the communicator. Collective: throws std::invalid_argument on
  /// all of them where the numbers of channels or other options differ (the channel axis may), and std::runtime_error
  /// on the others where one of them throws.
  SyncBatchNorm(const BatchNormOptions& settings, const Communicator& communicator)
      : SyncBatchNorm(communicator, settings) {}

  /// The same with an activation.
  SyncBatchNorm(const FusedBatchNormOptions& settings, const Communicator& communicator)
      : SyncBatchNorm(communicator, settings) {}

  /// Does not compile, with a sentence that says why.
  template <bool Fused>
  SyncBatchNorm(const ExtendedBatchNormOptions<Fused, true>& settings, const Communicator& communicator)
      : SyncBatchNorm(communicator, static_cast<const BatchNormOptions&>(settings)) {
    static_assert(never<Communicator>,
                  "batchnorm: SyncBatchNorm takes neither ghost batches nor renormalization: they are for batches too "
                  "large or too "
                  "small, and it makes one of any size");
  }

  /// A layer with a copy of the communicator. Not collective.
  SyncBatchNorm(const SyncBatchNorm& other) : Base(other), merges_(other.merges_) { connect(); }
  /// A layer with a copy of the communicator. Not collective.
  SyncBatchNorm& operator=(const SyncBatchNorm& other) {
    Base::operator=(other);
    merges_ = other.merges_;
    return *this;
  }
  ~SyncBatchNorm() = default;

  /// The processes that share the batch.
  const auto& communicator() const { return merges_.communicator(); }
  /// The layer as any other, to look at, to save and to deploy.
  const BatchNorm<T, Dims>& layer() const { return *this; }

  /// Whether weight_grad() and bias_grad() take the gradients of the whole batch, the same on every process, in place
  /// of the process's own part. Off at first. Those of affine_grad(...) are of the process's own in either case.
  SyncBatchNorm& sum_parameter_grads(bool on) {
    merges_.synchronizer().sums_parameter_grads = on;
    return *this;
  }
  /// Whether weight_grad() and bias_grad() are of the whole batch.
  bool sum_parameter_grads() const { return merges_.synchronizer().sums_parameter_grads; }

  /// \name As BatchNorm
  ///@{
  using Base::bias;
  using Base::bias_grad;
  using Base::frozen;
  using Base::is_training;
  using Base::options;
  using Base::parameters;
  using Base::running_mean;
  using Base::running_stats;
  using Base::running_var;
  using Base::saved_statistics;
  using Base::state_dict;
  using Base::weight;
  using Base::weight_grad;
  std::int64_t num_batches_tracked() const { return Base::num_batches_tracked(); }
  bool check_backward() const { return Base::check_backward(); }
  std::optional<Statistics> normalize_with() const { return Base::normalize_with(); }
  std::optional<bool> update_running_stats() const { return Base::update_running_stats(); }
  template <class Values = std::initializer_list<Param>>
  SyncBatchNorm& set_weight(const Values& values) {
    return Base::set_weight(values), *this;
  }
  template <class Values = std::initializer_list<Param>>
  SyncBatchNorm& set_bias(const Values& values) {
    return Base::set_bias(values), *this;
  }
  template <class Values = std::initializer_list<Param>>
  SyncBatchNorm& set_running_mean(const Values& values) {
    return Base::set_running_mean(values), *this;
  }
  template <class Values = std::initializer_list<Param>>
  SyncBatchNorm& set_running_var(const Values& values) {
    return Base::set_running_var(values), *this;
  }
  template <class Given>
  SyncBatchNorm& set_running_stats(const Given& statistics) {
    return Base::set_running_stats(statistics), *this;
  }
  template <class... Arguments>
  SyncBatchNorm& load_state_dict(const Arguments&... arguments) {
    return Base::load_state_dict(arguments...), *this;
  }
  SyncBatchNorm& num_batches_tracked(std::int64_t batches) { return Base::num_batches_tracked(batches), *this; }
  SyncBatchNorm& zero_grad() { return Base::zero_grad(), *this; }
  SyncBatchNorm& reset_running_stats() { return Base::reset_running_stats(), *this; }
  SyncBatchNorm& reset_parameters() { return Base::reset_parameters(), *this; }
  SyncBatchNorm& train(bool on = true) { return Base::train(on), *this; }
  SyncBatchNorm& eval() { return Base::eval(), *this; }
  SyncBatchNorm& check_backward(bool on) { return Base::check_backward(on), *this; }
  SyncBatchNorm& normalize_with(const Statistics& statistics) { return Base::normalize_with(statistics), *this; }
  SyncBatchNorm& update_running_stats(bool on) { return Base::update_running_stats(on), *this; }
  SyncBatchNorm& follow_mode() { return Base::follow_mode(), *this; }
  ///@}

  /// As BatchNorm::forward, of this process's part of the batch. Collective wherever the batch's statistics are needed:
  /// to normalize by, or to move the running ones.
  template <class First, class... Rest>
  auto forward(const First& first, Rest&&... rest) {
    Pass pass(*this, this->layer_.takes_batch(), detail::Merges<Checked>::moment_numbers);
    return Base::forward(first, std::forward<Rest>(rest)...);
  }

  /// As BatchNorm::infer, by the running statistics and never collective. Throws std::logic_error for a layer without
  /// running statistics, and where normalize_with asks for others.
  template <class First, class... Rest>
  auto infer(const First& first, Rest&&... rest) const {
    const auto asked = normalize_with();
    if (!options().track_running_stats() || (asked && *asked != Statistics::running)) {
      detail::fail<std::logic_error>(
          "expected running statistics for infer, which is not collective, got a layer that normalizes by those of the "
          "batch; use eval() and forward");
    }
    return Base::infer(first, std::forward<Rest>(rest)...);
  }

  /// As BatchNorm::backward, through the whole batch: dx is this process's part of what one layer would give.
  /// Collective after a forward by the batch's statistics, or mixed ones.
  template <class First, class... Rest>
  auto backward(const First& first, Rest&&... rest) {
    const SavedStatistics* saved = &saved_statistics();
    (find_saved(saved, rest), ...);
    Pass pass(*this, detail::ExtendedLayer<T, Dims>::is_synchronized(*saved),
              detail::Merges<Checked>::gradient_numbers);
    return Base::backward(first, std::forward<Rest>(rest)...);
  }

 private:
  template <class>
  static constexpr bool never = false;

  // A pass that ends in an exception before its exchange enters it all the same, so that no process waits for it.
  class Pass {
   public:
    Pass(SyncBatchNorm& layer, bool collective, std::size_t numbers)
        : exchange_(layer.merges_.exchange()),
          channels_(layer.layer_.channels()),
          numbers_(numbers),
          exceptions_(std::uncaught_exceptions()),
          collective_(collective) {
      exchange_.begin();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (!collective_ || exchange_.entered() || std::uncaught_exceptions() == exceptions_) return;
#if BATCHNORM_EXCEPTIONS
      try {
        exchange_.fail(numbers_, channels_);
      } catch (...) {  // the exception that is under way tells more
      }
#endif
    }

   private:
    detail::Exchange<Checked>& exchange_;
    detail::Index channels_;
    std::size_t numbers_;
    int exceptions_;
    bool collective_;
  };

  static const Checked& checked(const Communicator& communicator) {
    if constexpr (detail::is_communicator<Communicator>) {
      return communicator;
    } else {
      static const SingleProcess none;
      return none;
    }
  }

  template <class X>
  static void find_saved(const SavedStatistics*& saved, const X& argument) {
    if constexpr (std::is_same_v<X, SavedStatistics>) saved = &argument;
  }

  template <class Options>
  SyncBatchNorm(const Communicator& communicator, const Options& settings)
      : Base(made(checked(communicator), settings)), merges_(checked(communicator)) {
    this->layer_.extended = &detail::ExtendedLayer<T, Dims>::table;
    connect();
  }

  void connect() { this->layer_.synchronizer = &merges_.synchronizer(); }

  // The constructor's exchange: whether this process has a layer, its channels, and the hash of its options.
  template <class Options>
  static Base made(const Checked& communicator, const Options& settings) {
    bool told = false;
    std::vector<double> all(3 * static_cast<std::size_t>(communicator.size()));
    const auto tell = [&](bool failed) {
      told = true;
      const double mine[3] = {failed ? 1.0 : 0.0, static_cast<double>(settings.num_features()),
                              static_cast<double>(detail::hash_of(settings))};
      communicator.all_gather(mine, 3, all.data());
    };
    const auto make = [&] {
      detail::require(settings.num_features() >= 1,
                      "expected the number of channels in the settings of a SyncBatchNorm, got none");
      Base result(settings);
      tell(false);
      check_agreement(all);
      return result;
    };
#if BATCHNORM_EXCEPTIONS
    try {
      return make();
    } catch (...) {
      if (!told) tell(true);
      throw;
    }
#else
    return make();
#endif
  }

  static void check_agreement(const std::vector<double>& all) {
    for (std::size_t r = 0; r < all.size() / 3; ++r) {
      if (all[3 * r] > 0) {
        detail::fail<std::runtime_error>("expected a SyncBatchNorm on every process, got an error on rank ", r,
                                         ", which tells there what is wrong");
      }
    }
    for (std::size_t r = 1; r < all.size() / 3; ++r) {
      detail::require(!(all[3 * r + 1] < all[1] || all[3 * r + 1] > all[1]),
                      "expected as many channels on every process, got ", all[1], " on rank 0 and ", all[3 * r + 1],
                      " on rank ", r);
      detail::require(!(all[3 * r + 2] < all[2] || all[3 * r + 2] > all[2]),
                      "expected the same options on every process, got others on rank ", r, " than on rank 0");
    }
  }

  detail::Merges<Checked> merges_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_SYNC_BATCH_NORM_HPP
