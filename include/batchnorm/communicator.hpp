// What processes that share a batch exchange numbers by: what a communicator is, and two that need no library.

#ifndef BATCHNORM_COMMUNICATOR_HPP
#define BATCHNORM_COMMUNICATOR_HPP

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/interface/error.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class C, class = void>
inline constexpr bool has_ranks = false;
template <class C>
inline constexpr bool
    has_ranks<C, std::void_t<decltype(std::declval<const C&>().rank()), decltype(std::declval<const C&>().size())>> =
        std::is_convertible_v<decltype(std::declval<const C&>().rank()), int>&&
            std::is_convertible_v<decltype(std::declval<const C&>().size()), int>;

template <class C, class = void>
inline constexpr bool has_all_gather = false;
template <class C>
inline constexpr bool
    has_all_gather<C, std::void_t<decltype(std::declval<const C&>().all_gather(
                          std::declval<const double*>(), std::declval<std::size_t>(), std::declval<double*>()))>> =
        true;

/// Whether a communicator has the operation that a class need not have, all_to_all.
template <class C, class = void>
inline constexpr bool has_all_to_all = false;
template <class C>
inline constexpr bool
    has_all_to_all<C, std::void_t<decltype(std::declval<const C&>().all_to_all(
                          std::declval<const double*>(), std::declval<std::size_t>(), std::declval<double*>()))>> =
        true;

/// Whether a class has what a communicator needs.
template <class C>
inline constexpr bool is_communicator =
    std::is_copy_constructible_v<C>&& std::is_copy_assignable_v<C>&& has_ranks<C>&& has_all_gather<C>;

/// Stops the compilation with a sentence where C is no communicator; true otherwise.
template <class C>
constexpr bool check_communicator_type() {
  static_assert(is_communicator<C>,
                "batchnorm: a communicator is a copyable class with int rank() const, int size() const and "
                "void all_gather(const double* mine, std::size_t n, double* all) const");
  return true;
}

}  // namespace detail

/// The communicator of a program that is alone: rank 0 of 1.
///
/// A communicator is what the processes that share a batch exchange numbers by. Any class will do that can be copied
/// and assigned and has, of a copy or the original,
///
///     int rank() const;  // the number of this process, from 0
///     int size() const;  // how many there are, the same on all
///     void all_gather(const double* mine, std::size_t n, double* all) const;
///
/// `all_gather` is called by all processes in the same order and with the same n. It gives everyone the n numbers of
/// everyone, in the order of the ranks: all[r * n + i] is mine[i] of rank r. The two ranges do not overlap. A failure
/// is an exception, on every process if that is possible: one that returns where another throws waits for it later.
///
/// It may also have
///
///     void all_to_all(const double* send, std::size_t n, double* receive) const;
///
/// which hands n numbers from each to each: receive[r * n + i] is send[q * n + i] of rank r, where q is the rank of the
/// process that receives. By it more than 64 processes share the work of merging their statistics.
class SingleProcess {
 public:
  /// 0.
  int rank() const { return 0; }
  /// 1.
  int size() const { return 1; }
  /// Copies n numbers.
  void all_gather(const double* mine, std::size_t n, double* all) const { std::copy_n(mine, n, all); }
  /// Copies n numbers.
  void all_to_all(const double* send, std::size_t n, double* receive) const { std::copy_n(send, n, receive); }
};

namespace detail {

/// What the threads of a ThreadGroup share.
///
/// An operation is one round: each rank leaves a copy of its numbers, waits until all have, and reads. Two sets of
/// copies take turns. A rank that is ahead writes into the other set, and cannot be two rounds ahead, since a round
/// ends when all have come; so what one reads is not written meanwhile, and no rank waits for another to have read.
class ThreadGroupState {
 public:
  enum class Operation { all_gather, all_to_all };

  ThreadGroupState(int ranks, double timeout) : ranks_(ranks), timeout_(timeout) {
    require(ranks >= 1, "ThreadGroup: expected at least 1 rank, got ", ranks);
    require(timeout > 0, "ThreadGroup: expected a timeout above 0 seconds, got ", timeout);
    for (auto& copies : copies_) copies.resize(static_cast<std::size_t>(ranks));
    came_.resize(static_cast<std::size_t>(ranks), false);
  }

  int ranks() const { return ranks_; }
  double timeout() const { return timeout_; }

  /// One round: n numbers from each rank to all, or from each to each.
  void exchange(Operation operation, int rank, const double* numbers, std::size_t n, double* received) {
    const auto ranks = static_cast<std::size_t>(ranks_), own = static_cast<std::size_t>(rank);
    const bool gathers = operation == Operation::all_gather;
    const std::vector<Copy>& copies = wait_for_all(operation, own, numbers, gathers ? n : ranks * n, n);
    for (std::size_t r = 0; r < ranks; ++r) {
      const Copy& first = copies[0];
      const Copy& copy = copies[r];
      if (copy.operation != first.operation || copy.n != first.n) {
        fail<std::logic_error>("ThreadGroup: expected the same call on every rank, got ", name(first),
                               " on rank 0 and ", name(copy), " on rank ", r);
      }
    }
    for (std::size_t r = 0; r < ranks; ++r) {
      std::copy_n(copies[r].numbers.data() + (gathers ? 0 : own * n), n, received + r * n);
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Copy {
    Operation operation = Operation::all_gather;
    std::size_t n = 0;
    std::vector<double> numbers{};
  };

  static std::string name(const Copy& copy) {
    return (copy.operation == Operation::all_gather ? "all_gather of " : "all_to_all of ") + std::to_string(copy.n);
  }

  const std::vector<Copy>& wait_for_all(Operation operation, std::size_t rank, const double* numbers, std::size_t count,
                                        std::size_t n) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!broken_.empty()) fail<std::runtime_error>(broken_);
    if (came_[rank]) {
      fail<std::logic_error>("ThreadGroup: expected one call at a time of a rank, got two of rank ", rank);
    }
    std::vector<Copy>& copies = copies_[rounds_ % 2];
    copies[rank].operation = operation;
    copies[rank].n = n;
    copies[rank].numbers.assign(numbers, numbers + count);
    came_[rank] = true;
    if (++here_ == ranks_) {
      here_ = 0;
      std::fill(came_.begin(), came_.end(), false);
      ++rounds_;
      all_came_.notify_all();
      return copies;
    }
    const std::size_t round = rounds_;
    const auto over = [this, round] { return rounds_ != round || !broken_.empty(); };
    constexpr double forever = 1e9;  // seconds that a clock can still add
    if (timeout_ < forever) {
      const auto end =
          Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_));
      if (!all_came_.wait_until(lock, end, over)) {
        broken_ = "ThreadGroup: expected every rank within " + seconds() + ", got no call of rank" + absent();
        all_came_.notify_all();
      }
    } else {
      all_came_.wait(lock, over);
    }
    if (rounds_ == round) fail<std::runtime_error>(broken_);
    return copies;
  }

  std::string seconds() const {
    std::ostringstream text;
    text << timeout_ << " seconds";
    return text.str();
  }

  std::string absent() const {
    std::string text;
    int count = 0;
    for (std::size_t r = 0; r < came_.size(); ++r) {
      if (!came_[r]) text += (++count == 1 ? " " : ", ") + std::to_string(r);
    }
    return count == 1 ? text : "s" + text;
  }

  const int ranks_;
  const double timeout_;
  std::mutex mutex_{};
  std::condition_variable all_came_{};
  std::size_t rounds_ = 0;  // that have ended
  int here_ = 0;            // ranks that have come in the round under way
  std::vector<bool> came_{};
  std::vector<Copy> copies_[2]{};
  std::string broken_{};
};

}  // namespace detail

/// One rank of a ThreadGroup, which makes it. Copies are the same rank, and the group's threads may outlive the group.
class ThreadCommunicator {
 public:
  /// The number of this rank, from 0.
  int rank() const { return rank_; }
  /// How many ranks the group has.
  int size() const { return state_->ranks(); }

  /// The n numbers of every rank, in the order of the ranks, into the n size() numbers at `all`. Returns once every
  /// rank has called it. Throws std::runtime_error if one does not come within the group's timeout, and from then on
  /// always; std::logic_error, on every rank, if another n or all_to_all was called on one, after which the group goes
  /// on; and std::logic_error if another thread is in a call of the same rank.
  void all_gather(const double* mine, std::size_t n, double* all) const {
    state_->exchange(detail::ThreadGroupState::Operation::all_gather, rank_, mine, n, all);
  }

  /// The n numbers that each rank has for this one, in the order of the ranks, into the n size() numbers at `receive`;
  /// send[r * n] is the first of those for rank r. Waits and throws as all_gather does.
  void all_to_all(const double* send, std::size_t n, double* receive) const {
    state_->exchange(detail::ThreadGroupState::Operation::all_to_all, rank_, send, n, receive);
  }

 private:
  friend class ThreadGroup;
  ThreadCommunicator(std::shared_ptr<detail::ThreadGroupState> state, int rank)
      : state_(std::move(state)), rank_(rank) {}

  std::shared_ptr<detail::ThreadGroupState> state_;
  int rank_;
};

/// Ranks that are threads of one program: several replicas of a network that share a batch, or a test of what is to run
/// on several processes.
///
///     batchnorm::ThreadGroup group(2);
///     std::thread other([&] { train(group.communicator(1)); });
///     train(group.communicator(0));
///     other.join();
///
/// A rank waits for the others as long as the timeout says. When it is over, every rank that waits throws
/// std::runtime_error, which says who did not come, and so does every later call: the rank that was late would
/// otherwise be a call behind the others from then on. Go on with another group.
///
/// A group may be copied and may end before its communicators; they share what they need.
class ThreadGroup {
 public:
  /// How long a rank waits for the others by default, in seconds.
  static constexpr double default_timeout = 300;

  /// A group of so many ranks that wait for each other for so many seconds, for ever if that is infinity. Throws
  /// std::invalid_argument below 1 rank and for a timeout that is not above 0.
  explicit ThreadGroup(int ranks, double timeout = default_timeout)
      : state_(std::make_shared<detail::ThreadGroupState>(ranks, timeout)) {}

  /// How many ranks there are.
  int size() const { return state_->ranks(); }
  /// How long a rank waits for the others, in seconds.
  double timeout() const { return state_->timeout(); }

  /// The communicator of a rank, for the thread that is to be that rank. Throws std::invalid_argument unless the rank
  /// is at least 0 and below size().
  ThreadCommunicator communicator(int rank) const {
    detail::require(rank >= 0 && rank < size(), "ThreadGroup: expected a rank from 0 to ", size() - 1, ", got ", rank);
    return ThreadCommunicator(state_, rank);
  }

 private:
  std::shared_ptr<detail::ThreadGroupState> state_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_COMMUNICATOR_HPP
