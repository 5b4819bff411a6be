// What is fetched into the cache before it is needed.

#ifndef BATCHNORM_DETAIL_KERNELS_PREFETCH_HPP
#define BATCHNORM_DETAIL_KERNELS_PREFETCH_HPP

#include "batchnorm/detail/kernels/tile.hpp"
#include "batchnorm/detail/simd/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// What a kernel fetches of one tensor while it reads it.
struct Prefetch {
  enum class What {
    nothing,
    walk,     ///< what the kernel itself comes to `distance` elements later
    address,  ///< what lies `distance` elements further in memory, as the same place in the next block of channels
  };
  What what = What::nothing;
  Index distance = 0;
};

/// For a kernel that reads x and dy, what it fetches of each.
struct Prefetches {
  Prefetch x, dy;
};

/// How far ahead of a pass memory is fetched, in bytes: a core's own prefetchers stop at the end of each page, and
/// double what they reach alone when told so early.
inline constexpr Index prefetch_bytes = 16384;

/// The most that the tensors of a pass may be together, read and written, for nothing to be fetched so: what lies in
/// the last cache, the core's own prefetchers bring in time, and more requests are in their way. Half of a cache, since
/// others use it too; and one that is large and shared is slow enough to be treated as memory.
inline Index unfetched_bytes(Index cache_bytes) {
  constexpr Index most = Index(32) << 20;
  return (std::min)(cache_bytes / 2, most);
}

/// What two passes over a block may read if the next block is to be fetched meanwhile into the same second-level cache.
inline constexpr Index two_blocks_bytes = Index(3) << 18;

/// What the decisions about one pass follow from: how many tensors it reads, beside one that is written, of elements of
/// so many bytes, and how large the last cache is.
struct Traffic {
  Index element_bytes, tensors, cache_bytes;
};

/// For a pass over a tensor, straight through memory.
inline Prefetch prefetch_walk(const View& view, const Traffic& traffic) {
  const Index bytes = (traffic.tensors + 1) * view.size() * traffic.element_bytes;
  if (bytes < unfetched_bytes(traffic.cache_bytes)) return {};
  return {Prefetch::What::walk, prefetch_bytes / traffic.element_bytes};
}

/// For a pass that writes straight through memory, in `blocks` blocks of channels: of a panel of columns, as many whole
/// rows further as make up the distance.
inline Prefetch prefetch_elements(const View& view, const Traffic& traffic, Index blocks) {
  const Prefetch walk = prefetch_walk(view, traffic);
  if (walk.what == Prefetch::What::nothing || !by_columns(view) || blocks == 1) return walk;
  const Index rows = ceil_div(walk.distance, ceil_div(view.step_width(), blocks));
  return {Prefetch::What::address, rows * view.step_width()};
}

/// What the two passes over a block of channels fetch, the first that sums and the second that writes.
struct BlockPrefetches {
  Prefetches sums, writes;
};

/// For two passes over each of `blocks` blocks of up to `channels` channels, on one thread: it fetches the next block
/// while it is busy with this one. (Several threads find the memory busy enough.)
inline BlockPrefetches prefetch_next_block(const View& view, const Traffic& traffic, Index blocks, Index channels) {
  const Prefetch walk = prefetch_walk(view, traffic);
  BlockPrefetches result{{walk, walk}, {}};
  const bool fit = channels * view.values_per_channel() * traffic.tensors * traffic.element_bytes <= two_blocks_bytes;
  if (!fit || blocks == 1 || walk.what == Prefetch::What::nothing) return result;
  const Prefetch next{Prefetch::What::address, channels * view.inner};
  if (traffic.element_bytes > 2) {
    result.writes = {next, next};
  } else if (traffic.tensors == 2) {  // 16-bit values are summed so slowly that those of one tensor come meanwhile
    result = {{next, {}}, {{}, next}};
  }
  return result;
}

/// A kernel's place in its walk, as addresses: what is to be fetched lies `distance` elements on, unless that is 0; and
/// beyond the next `left` elements, where a stretch of memory ends, `jump` more.
///
///     | a stretch of `left` elements |  ... jump ...  | the next
///       x ------- distance ----->               ^ fetched
struct Lookahead {
  Index distance, left, jump;

  /// For a walk along stretches of `length` elements that begin `stride` apart. What is shorter than the distance is
  /// fetched by whole stretches.
  static Lookahead along(const Prefetch& prefetch, Index length, Index stride) {
    const Index distance = prefetch.distance;
    if (prefetch.what != Prefetch::What::walk || distance == 0) return {distance, length, 0};
    if (distance < length) return {distance, length, stride - length};
    return {ceil_div(distance, length) * stride, length, 0};
  }

  template <class T>
  BATCHNORM_ALWAYS_INLINE void fetch(const T* x) const {
    if (distance != 0) detail::prefetch(x + distance + (distance < left ? 0 : jump));
  }
  /// The place `steps` elements further.
  BATCHNORM_ALWAYS_INLINE Lookahead after(Index steps) const { return {distance, left - steps, jump}; }
};

/// How a pass that writes treats memory: whether what it writes goes past the cache, and what it fetches.
struct Access {
  bool streams;
  Prefetches prefetches;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_PREFETCH_HPP
