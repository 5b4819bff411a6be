// Communicators without a library, by themselves: what arrives where, and what happens when somebody does not come.

#include <batchnorm/communicator.hpp>

#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"

namespace {

using batchnorm::SingleProcess;
using batchnorm::ThreadCommunicator;
using batchnorm::ThreadGroup;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A number that tells who sent it to whom, in which round and at which place; a double holds it exactly.
double number(int from, int to, std::size_t round, std::size_t i) {
  return from + 100.0 * to + 1e4 * static_cast<double>(round) + 1e8 * static_cast<double>(i);
}

constexpr int everyone = 99;

std::vector<double> numbers(int from, int to, std::size_t round, std::size_t n) {
  std::vector<double> result(n);
  for (std::size_t i = 0; i < n; ++i) result[i] = number(from, to, round, i);
  return result;
}

// Calls f(communicator) on a thread for each of the ranks that come, and returns what each threw.
template <class F>
std::vector<std::string> on_ranks(const ThreadGroup& group, const std::vector<int>& ranks, const F& f) {
  std::vector<std::string> thrown(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        f(group.communicator(ranks[i]));
      } catch (const std::exception& error) {
        thrown[i] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return thrown;
}

std::vector<int> all_of(const ThreadGroup& group) {
  std::vector<int> result;
  for (int r = 0; r < group.size(); ++r) result.push_back(r);
  return result;
}

// The sum of one number of each rank, as a check that a group works.
double sum_of_ranks(const ThreadCommunicator& communicator) {
  const double mine = communicator.rank();
  std::vector<double> all(static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(&mine, 1, all.data());
  double sum = 0;
  for (const double one : all) sum += one;
  return sum;
}

// One round of each operation, compared with what must arrive.
bool rounds_agree(const ThreadCommunicator& communicator, std::size_t round, std::size_t n) {
  const int own = communicator.rank(), ranks = communicator.size();
  const auto mine = numbers(own, everyone, round, n);
  std::vector<double> all(n * static_cast<std::size_t>(ranks)), expected, send, receive(all.size());
  communicator.all_gather(mine.data(), n, all.data());
  for (int r = 0; r < ranks; ++r) {
    for (const double one : numbers(r, everyone, round, n)) expected.push_back(one);
    for (const double one : numbers(own, r, round, n)) send.push_back(one);
  }
  if (all != expected) return false;
  communicator.all_to_all(send.data(), n, receive.data());
  expected.clear();
  for (int r = 0; r < ranks; ++r) {
    for (const double one : numbers(r, own, round, n)) expected.push_back(one);
  }
  return receive == expected;
}

struct Empty {};
struct WithoutGather {
  int rank() const { return 0; }
  int size() const { return 1; }
};
struct GatherChangesIt : WithoutGather {
  void all_gather(const double*, std::size_t, double*) {}
};
struct GathersFloats : WithoutGather {
  void all_gather(const float*, std::size_t, float*) const {}
};
struct RankIsText {
  std::string rank() const { return "0"; }
  int size() const { return 1; }
  void all_gather(const double*, std::size_t, double*) const {}
};
struct Least : WithoutGather {
  void all_gather(const double*, std::size_t, double*) const {}
};
struct CannotBeCopied : Least {
  CannotBeCopied() = default;
  CannotBeCopied(const CannotBeCopied&) = delete;
  CannotBeCopied& operator=(const CannotBeCopied&) = delete;
};

namespace detail = batchnorm::detail;
static_assert(detail::is_communicator<SingleProcess> && detail::has_all_to_all<SingleProcess>);
static_assert(detail::is_communicator<ThreadCommunicator> && detail::has_all_to_all<ThreadCommunicator>);
static_assert(detail::is_communicator<Least> && !detail::has_all_to_all<Least>);
static_assert(!detail::is_communicator<Empty>);
static_assert(!detail::is_communicator<WithoutGather>);
static_assert(!detail::is_communicator<GatherChangesIt>);
static_assert(!detail::is_communicator<GathersFloats>);
static_assert(!detail::is_communicator<RankIsText>);
static_assert(!detail::is_communicator<CannotBeCopied>);
static_assert(!detail::is_communicator<int>);
static_assert(detail::check_communicator_type<SingleProcess>());

}  // namespace

TEST_CASE("a single process gathers its own numbers") {
  const SingleProcess alone;
  CHECK(alone.rank() == 0);
  CHECK(alone.size() == 1);
  const std::vector<double> mine = {1, 2, 3};
  std::vector<double> all(4, -1), received(4, -1);
  alone.all_gather(mine.data(), 3, all.data());
  alone.all_to_all(mine.data(), 3, received.data());
  CHECK(all == std::vector<double>{1, 2, 3, -1});
  CHECK(received == all);
  alone.all_gather(nullptr, 0, nullptr);
  alone.all_to_all(nullptr, 0, nullptr);
}

TEST_CASE("numbers arrive in the order of the ranks, whatever their count, in any number of ranks") {
  for (const int ranks : {1, 2, 3, 4, 7, 16}) {
    const ThreadGroup group(ranks);
    CHECK(group.size() == ranks);
    for (const std::size_t n : std::vector<std::size_t>{0, 1, 2, 17, 1000}) {
      INFO(ranks << " ranks, " << n << " numbers");
      const auto thrown = on_ranks(group, all_of(group), [n](const ThreadCommunicator& communicator) {
        if (!rounds_agree(communicator, n % 7, n)) throw std::runtime_error("differs");
      });
      for (const auto& message : thrown) CHECK(message.empty());
    }
  }
}

TEST_CASE("a hundred thousand numbers from each rank arrive") {
  const ThreadGroup group(2);
  const auto thrown = on_ranks(group, all_of(group), [](const ThreadCommunicator& communicator) {
    if (!rounds_agree(communicator, 1, 100000)) throw std::runtime_error("differs");
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("rounds that follow one another are kept apart, though their sizes change and ranks are slow in turn") {
  const ThreadGroup group(4);
  const auto thrown = on_ranks(group, all_of(group), [](const ThreadCommunicator& communicator) {
    for (std::size_t round = 0; round < 2000; ++round) {
      if (round % 41 == 0 && static_cast<int>(round / 41 % 4) == communicator.rank()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (!rounds_agree(communicator, round, round * 7 % 23)) {
        throw std::runtime_error("differs in round " + std::to_string(round));
      }
    }
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("what a rank sent is its own again when the call returns") {
  const ThreadGroup group(3);
  const auto thrown = on_ranks(group, all_of(group), [](const ThreadCommunicator& communicator) {
    std::vector<double> mine(1000), all(3000);
    for (int round = 0; round < 300; ++round) {
      for (double& one : mine) one = round + 1000 * communicator.rank();
      communicator.all_gather(mine.data(), mine.size(), all.data());
      for (double& one : mine) one = -1;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const double expected = round + 1000 * static_cast<double>(i / 1000);
        if (all[i] < expected || all[i] > expected) throw std::runtime_error("differs");
      }
    }
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("every bit of a number arrives, of NaN and infinity too") {
  const ThreadGroup group(2);
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto thrown = on_ranks(group, all_of(group), [&](const ThreadCommunicator& communicator) {
    const double mine[4] = {inf, nan, -0.0, std::numeric_limits<double>::denorm_min()};
    double all[8];
    communicator.all_gather(mine, 4, all);
    if (std::memcmp(all, mine, sizeof(mine)) != 0 || std::memcmp(all + 4, mine, sizeof(mine)) != 0) {
      throw std::runtime_error("differs");
    }
  });
  for (const auto& message : thrown) CHECK(message.empty());
}

TEST_CASE("communicators outlive their group, and copies are the same rank") {
  auto group = std::make_unique<ThreadGroup>(2);
  const ThreadCommunicator first = group->communicator(0), second = group->communicator(1);
  group.reset();
  ThreadCommunicator copy = first;
  copy = second;
  CHECK(copy.rank() == 1);
  double there = 0;
  std::thread other([&] { there = sum_of_ranks(copy); });
  const double here = sum_of_ranks(first);
  other.join();
  CHECK(here == 1);
  CHECK(there == 1);
}

TEST_CASE("a group of one rank waits for nobody") {
  const ThreadGroup group(1, 1e-3);
  for (int i = 0; i < 100; ++i) CHECK(sum_of_ranks(group.communicator(0)) == 0);
}

TEST_CASE("a rank that never comes makes all who wait throw, within the timeout, and the message names it") {
  for (const double timeout : {0.05, 0.3}) {
    const ThreadGroup group(4, timeout);
    const auto begin = std::chrono::steady_clock::now();
    const auto thrown = on_ranks(group, {0, 1, 3}, [](const ThreadCommunicator& c) { sum_of_ranks(c); });
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    for (const auto& message : thrown) {
      INFO(message);
      CHECK(contains(message, "expected every rank within "));
      CHECK(contains(message, " seconds, got no call of rank 2"));
    }
    CHECK(waited.count() >= timeout);
    CHECK(waited.count() < timeout + 20);  // a machine that is busy with other work is slow
  }
  const ThreadGroup group(4, 0.05);
  const auto thrown = on_ranks(group, {1}, [](const ThreadCommunicator& c) { sum_of_ranks(c); });
  CHECK(contains(thrown[0], "expected every rank within 0.05 seconds, got no call of ranks 0, 2, 3"));
}

TEST_CASE("a rank that leaves in the middle is named too") {
  const ThreadGroup group(3, 0.2);
  const auto thrown = on_ranks(group, all_of(group), [](const ThreadCommunicator& communicator) {
    for (int round = 0; round < 20; ++round) {
      if (round == 7 && communicator.rank() == 1) throw std::runtime_error("left");
      sum_of_ranks(communicator);
    }
  });
  CHECK(contains(thrown[0], "got no call of rank 1"));
  CHECK(thrown[1] == "left");
  CHECK(contains(thrown[2], "got no call of rank 1"));
}

TEST_CASE("a group of which a rank did not come stays broken, and another group works") {
  const ThreadGroup group(2, 0.05);
  CHECK_THROWS_AS(sum_of_ranks(group.communicator(0)), std::runtime_error);
  // The one that is late does not wait, and neither do both together.
  const auto thrown = on_ranks(group, {1}, [](const ThreadCommunicator& c) { sum_of_ranks(c); });
  CHECK(contains(thrown[0], "got no call of rank 1"));
  for (const auto& message : on_ranks(group, {0, 1}, [](const ThreadCommunicator& c) { sum_of_ranks(c); })) {
    CHECK(contains(message, "got no call of rank 1"));
  }
  const ThreadGroup another(2);
  for (const auto& message : on_ranks(another, {0, 1}, [](const ThreadCommunicator& c) { sum_of_ranks(c); })) {
    CHECK(message.empty());
  }
}

TEST_CASE("ranks whose calls differ all throw alike, and the group goes on") {
  const ThreadGroup group(3);
  const auto thrown = on_ranks(group, all_of(group), [](const ThreadCommunicator& communicator) {
    std::string messages;
    const std::vector<double> mine(30, 1.0);
    std::vector<double> all(300);
    try {
      communicator.all_gather(mine.data(), communicator.rank() == 2 ? 6 : 5, all.data());
    } catch (const std::logic_error& error) {
      messages += error.what();
    }
    try {
      if (communicator.rank() == 1) {
        communicator.all_to_all(mine.data(), 5, all.data());
      } else {
        communicator.all_gather(mine.data(), 5, all.data());
      }
    } catch (const std::logic_error& error) {
      messages += error.what();
    }
    if (sum_of_ranks(communicator) == 3) messages += "; 3";
    throw std::runtime_error(messages);
  });
  for (const auto& message : thrown) {
    INFO(message);
    CHECK(contains(message, "got all_gather of 5 on rank 0 and all_gather of 6 on rank 2"));
    CHECK(contains(message, "got all_gather of 5 on rank 0 and all_to_all of 5 on rank 1"));
    CHECK(contains(message, "; 3"));
  }
}

TEST_CASE("two threads that are the same rank are told so") {
  const ThreadGroup group(3, 1);
  const auto thrown = on_ranks(group, {0, 0}, [](const ThreadCommunicator& c) { sum_of_ranks(c); });
  const bool first = contains(thrown[0], "expected one call at a time of a rank, got two of rank 0");
  const bool second = contains(thrown[1], "expected one call at a time of a rank, got two of rank 0");
  INFO(thrown[0] << "; " << thrown[1]);
  // The other waits for ranks 1 and 2 in vain; a thread that was later than that sees the same.
  CHECK((first || contains(thrown[0], "got no call of ranks 1, 2")));
  CHECK((second || contains(thrown[1], "got no call of ranks 1, 2")));
  CHECK_FALSE((first && second));
}

TEST_CASE("a group of no ranks, a rank that is not there and a timeout of nothing are refused") {
  CHECK_THROWS_AS(ThreadGroup(0), std::invalid_argument);
  CHECK_THROWS_AS(ThreadGroup(-1), std::invalid_argument);
  CHECK_THROWS_AS(ThreadGroup(2, 0), std::invalid_argument);
  CHECK_THROWS_AS(ThreadGroup(2, -1), std::invalid_argument);
  CHECK_THROWS_AS(ThreadGroup(2, std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
  const ThreadGroup group(2);
  CHECK_THROWS_AS(group.communicator(2), std::invalid_argument);
  CHECK_THROWS_AS(group.communicator(-1), std::invalid_argument);
  CHECK(group.timeout() == ThreadGroup::default_timeout);
}

TEST_CASE("an infinite timeout waits as long as it takes") {
  const ThreadGroup group(2, std::numeric_limits<double>::infinity());
  const auto thrown = on_ranks(group, {0, 1}, [](const ThreadCommunicator& communicator) {
    if (communicator.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (sum_of_ranks(communicator) != 1) throw std::runtime_error("differs");
  });
  for (const auto& message : thrown) CHECK(message.empty());
}
