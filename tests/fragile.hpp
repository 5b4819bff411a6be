// A scalar whose arithmetic throws.

#ifndef BATCHNORM_TESTS_FRAGILE_HPP
#define BATCHNORM_TESTS_FRAGILE_HPP

#include <atomic>
#include <cmath>
#include <stdexcept>

namespace fragile {

/// A number that gives up after so many multiplications.
struct Fragile {
  Fragile() = default;
  Fragile(double v) : value(v) {}  // NOLINT(google-explicit-constructor)
  explicit operator double() const { return value; }

  friend Fragile operator+(const Fragile& a, const Fragile& b) { return a.value + b.value; }
  friend Fragile operator-(const Fragile& a, const Fragile& b) { return a.value - b.value; }
  friend Fragile operator-(const Fragile& a) { return -a.value; }
  friend Fragile operator*(const Fragile& a, const Fragile& b) {
    spend();
    return a.value * b.value;
  }
  friend Fragile operator/(const Fragile& a, const Fragile& b) { return a.value / b.value; }
  Fragile& operator+=(const Fragile& b) { return *this = *this + b; }
  Fragile& operator-=(const Fragile& b) { return *this = *this - b; }
  Fragile& operator*=(const Fragile& b) { return *this = *this * b; }
  Fragile& operator/=(const Fragile& b) { return *this = *this / b; }
  friend bool operator<(const Fragile& a, const Fragile& b) { return a.value < b.value; }
  friend bool operator>(const Fragile& a, const Fragile& b) { return a.value > b.value; }
  friend bool operator<=(const Fragile& a, const Fragile& b) { return a.value <= b.value; }
  friend bool operator>=(const Fragile& a, const Fragile& b) { return a.value >= b.value; }
  friend bool operator==(const Fragile& a, const Fragile& b) { return a.value == b.value; }
  friend bool operator!=(const Fragile& a, const Fragile& b) { return a.value != b.value; }
  friend Fragile sqrt(const Fragile& a) { return std::sqrt(a.value); }
  friend Fragile abs(const Fragile& a) { return std::abs(a.value); }

  static void spend() {
    if (multiplications_left.fetch_sub(1) == 1) throw std::overflow_error("no more multiplications");
  }

  double value = 0;
  static inline std::atomic<long> multiplications_left{0};  ///< on all threads together; 0 for no end of them
};

}  // namespace fragile

#endif  // BATCHNORM_TESTS_FRAGILE_HPP
