// The loops of FrozenBatchNorm: y = (x - mean) * scale + shift in Eigen's packets, at the instruction set that the
// program is compiled for. There is no choice at run time, which would cost a sample of 16 numbers more than its work.

#ifndef BATCHNORM_DETAIL_FROZEN_KERNELS_HPP
#define BATCHNORM_DETAIL_FROZEN_KERNELS_HPP

#include <cmath>

#include "batchnorm/detail/frozen/ranges.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
namespace frozen {

// --- One packet, which may be a single number.

template <class P>
constexpr Index size_of_packet() {
  return static_cast<Index>(Eigen::internal::unpacket_traits<P>::size);
}

template <class P>
struct in_register : std::integral_constant<bool, std::is_same<P, float>::value || std::is_same<P, double>::value ||
                                                      (Eigen::internal::unpacket_traits<P>::size > 1)> {};

/// Makes the compiler take `value` as it is. Under -Ofast it may compute (x - mean) * scale + shift as
/// x * scale + (shift - mean * scale) where it knows the coefficients, and that loses the digits which x and the mean
/// share. Behind this it does not know any more that the difference is one.
template <class P, std::enable_if_t<in_register<P>::value, int> = 0>
BATCHNORM_ALWAYS_INLINE void keep(P& value) {
#if BATCHNORM_GNU && defined(__x86_64__)
  __asm__("" : "+v"(value));
#elif BATCHNORM_GNU && defined(__aarch64__)
  __asm__("" : "+w"(value));
#else
  static_cast<void>(value);
  EIGEN_OPTIMIZATION_BARRIER(value)
#endif
}
template <class P, std::enable_if_t<!in_register<P>::value, int> = 0>
BATCHNORM_ALWAYS_INLINE void keep(P&) {}

// a * b + c, rounded once where it is in Eigen's packets, so that a number's result is the same in a packet and alone.
// For x86 Eigen's pmadd of numbers sees to that, for ARM it does not.
template <class P>
BATCHNORM_ALWAYS_INLINE P mul_add(const P& a, const P& b, const P& c) {
  return Eigen::internal::pmadd(a, b, c);
}
#ifdef __ARM_FEATURE_FMA
BATCHNORM_ALWAYS_INLINE float mul_add(const float& a, const float& b, const float& c) { return std::fma(a, b, c); }
BATCHNORM_ALWAYS_INLINE double mul_add(const double& a, const double& b, const double& c) { return std::fma(a, b, c); }
#endif

template <class P>
BATCHNORM_ALWAYS_INLINE P normalized(const P& x, const P& mean, const P& scale, const P& shift) {
  P centered = Eigen::internal::psub(x, mean);
  keep(centered);
  return mul_add(centered, scale, shift);
}

/// The coefficients of all channels.
template <class T>
struct Coefficients {
  const T *mean, *scale, *shift;
};

/// How far apart in memory neighbours of each axis are.
struct Strides {
  Index outer, channel, inner;
};

// --- Samples: neighbouring numbers are of neighbouring channels.

template <class P, int samples, class T>
void next_samples(std::true_type, Index c, Index channels, const Coefficients<T>& k, const T* x, Index x_stride, T* y,
                  Index y_stride);
template <class P, int samples, class T>
void next_samples(std::false_type, Index c, Index channels, const Coefficients<T>& k, const T* x, Index x_stride, T* y,
                  Index y_stride);

// Channels [c, channels) of `samples` samples at once, so that their coefficients are read once: by packets of P, and
// what these leave by packets of half the size, down to single numbers.
template <class P, int samples, class T, std::enable_if_t<Eigen::internal::unpacket_traits<P>::size == 1, int> = 0>
BATCHNORM_ALWAYS_INLINE void normalize_channels(Index c, Index channels, const Coefficients<T>& k, const T* x,
                                                Index x_stride, T* y, Index y_stride) {
  for (; c < channels; ++c) {
    const T mean = k.mean[c], scale = k.scale[c], shift = k.shift[c];
    BATCHNORM_UNROLL
    for (int s = 0; s < samples; ++s) y[s * y_stride + c] = normalized(x[s * x_stride + c], mean, scale, shift);
  }
}
template <class P, int samples, class T, std::enable_if_t<Eigen::internal::unpacket_traits<P>::size != 1, int> = 0>
BATCHNORM_ALWAYS_INLINE void normalize_channels(Index c, Index channels, const Coefficients<T>& k, const T* x,
                                                Index x_stride, T* y, Index y_stride) {
  using Eigen::internal::ploadu;
  constexpr Index size = size_of_packet<P>();
  BATCHNORM_UNROLL
  for (; c <= channels - size; c += size) {
    const P mean = ploadu<P>(k.mean + c), scale = ploadu<P>(k.scale + c), shift = ploadu<P>(k.shift + c);
    BATCHNORM_UNROLL
    for (int s = 0; s < samples; ++s) {
      const P value = ploadu<P>(x + s * x_stride + c);
      Eigen::internal::pstoreu(y + s * y_stride + c, normalized(value, mean, scale, shift));
    }
  }
  constexpr bool is_smallest = size_of_packet<typename Eigen::internal::unpacket_traits<P>::half>() == size;
  next_samples<P, samples>(std::integral_constant<bool, is_smallest>(), c, channels, k, x, x_stride, y, y_stride);
}

// After packets of P: single numbers if there are no smaller ones, else packets of half the size.
template <class P, int samples, class T>
BATCHNORM_ALWAYS_INLINE void next_samples(std::true_type, Index c, Index channels, const Coefficients<T>& k, const T* x,
                                          Index x_stride, T* y, Index y_stride) {
  normalize_channels<T, samples>(c, channels, k, x, x_stride, y, y_stride);
}
template <class P, int samples, class T>
BATCHNORM_ALWAYS_INLINE void next_samples(std::false_type, Index c, Index channels, const Coefficients<T>& k,
                                          const T* x, Index x_stride, T* y, Index y_stride) {
  normalize_channels<typename Eigen::internal::unpacket_traits<P>::half, samples>(c, channels, k, x, x_stride, y,
                                                                                  y_stride);
}

// Eigen's largest packet; the 16-bit types are computed with one by one.
template <class T, bool = is_16_bit<T>::value>
struct PacketOf {
  using type = typename Eigen::internal::packet_traits<T>::type;
};
template <class T>
struct PacketOf<T, true> {
  using type = T;
};
template <class T>
using Packet = typename PacketOf<T>::type;

/// Makes the compiler forget what memory this is. GCC sees that a loop of packets would run over the end of an array of
/// three numbers, not that there are never so many channels, and warns.
template <class Pointer>
BATCHNORM_ALWAYS_INLINE void forget_memory(Pointer& pointer) {
#if BATCHNORM_GNU
  __asm__("" : "+r"(pointer));
#else
  static_cast<void>(pointer);
#endif
}

/// `count` samples of `channels` neighbouring numbers, each `stride` numbers after the one before it.
template <class T>
BATCHNORM_ALWAYS_INLINE void normalize_samples(Index count, Index channels, const Coefficients<T>& k, const T* x,
                                               Index x_stride, T* y, Index y_stride) {
  forget_memory(x);
  forget_memory(y);
  // Of what the second-level cache holds two at once, whose coefficients are read once. What comes from farther away
  // arrives faster where it is read in one line.
  constexpr int at_once = 2;
  constexpr Index cached = (Index(1) << 18) / static_cast<Index>(sizeof(T));
  if (count >= at_once && count * channels <= cached) {
    for (; count >= at_once; count -= at_once, x += at_once * x_stride, y += at_once * y_stride) {
      normalize_channels<Packet<T>, at_once>(0, channels, k, x, x_stride, y, y_stride);
    }
  }
  for (; count > 0; --count, x += x_stride, y += y_stride) {
    normalize_channels<Packet<T>, 1>(0, channels, k, x, x_stride, y, y_stride);
  }
}

// --- Rows: neighbouring numbers are of one channel.

template <class P, class T>
BATCHNORM_ALWAYS_INLINE void normalize_row(Index size, T mean, T scale, T shift, const T* x, T* y) {
  using namespace Eigen::internal;  // NOLINT(google-build-using-namespace)
  constexpr Index packet = size_of_packet<P>();
  constexpr int unrolled = 4;
  const P means = pset1<P>(mean), scales = pset1<P>(scale), shifts = pset1<P>(shift);
  Index i = 0;
  for (; i <= size - unrolled * packet; i += unrolled * packet) {
    BATCHNORM_UNROLL
    for (int j = 0; j < unrolled; ++j) {
      pstoreu(y + i + j * packet, normalized(ploadu<P>(x + i + j * packet), means, scales, shifts));
    }
  }
  for (; i <= size - packet; i += packet) pstoreu(y + i, normalized(ploadu<P>(x + i), means, scales, shifts));
  for (; i < size; ++i) y[i] = normalized(x[i], mean, scale, shift);
}

template <class T>
BATCHNORM_NOINLINE void normalize_rows(Index outer, Index channels, Index inner, const Coefficients<T>& k, const T* x,
                                       const Strides& x_strides, T* y, const Strides& y_strides) {
  for (Index o = 0; o < outer; ++o) {
    for (Index c = 0; c < channels; ++c) {
      normalize_row<Packet<T>>(inner, k.mean[c], k.scale[c], k.shift[c],
                               x + o * x_strides.outer + c * x_strides.channel,
                               y + o * y_strides.outer + c * y_strides.channel);
    }
  }
}

// --- Any strides, number by number.

/// y = f(c, x) for all numbers x of channel c.
template <class T, class F>
void transform_each(Index outer, Index channels, Index inner, const T* x, const Strides& x_strides, T* y,
                    const Strides& y_strides, const F& f) {
  for (Index o = 0; o < outer; ++o) {
    for (Index c = 0; c < channels; ++c) {
      const T* const from = x + o * x_strides.outer + c * x_strides.channel;
      T* const to = y + o * y_strides.outer + c * y_strides.channel;
      for (Index i = 0; i < inner; ++i) to[i * y_strides.inner] = f(c, from[i * x_strides.inner]);
    }
  }
}

}  // namespace frozen
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FROZEN_KERNELS_HPP
