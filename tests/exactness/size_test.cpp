// Counts and places beyond 32 bits.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cstdint>

#include "../catch.hpp"

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <sys/mman.h>
#include <unistd.h>
#define BATCHNORM_TEST_REPEATED_MEMORY 1
#endif

namespace {

using batchnorm::detail::Tile;
using batchnorm::detail::Tiling;
using batchnorm::detail::View;
using Index = Eigen::Index;

constexpr Index two_to_31 = Index(1) << 31;

// Whether the tiles cut the view into parts that together are all of it and lie one after another.
void check_cover(const View& view, const Tiling& tiling) {
  Index elements = 0, outer_end = 0;
  bool one_after_another = true;
  for (Index slice = 0; slice < tiling.slices.count(); ++slice) {
    Index channel_end = 0;
    for (Index block = 0; block < tiling.blocks.count; ++block) {
      const Tile tile = tiling.tile(slice, block);
      one_after_another = one_after_another && tile.channel_begin == channel_end;
      channel_end = tile.channel_end;
      elements += tile.channels() * tile.values_per_channel();
      outer_end = std::max(outer_end, tile.outer_end);
    }
    one_after_another = one_after_another && channel_end == view.channels;
  }
  CHECK(one_after_another);
  CHECK(elements == view.size());
  CHECK(outer_end == view.outer);
}

}  // namespace

TEST_CASE("a batch of 2^31 elements and more is counted and cut in 64 bits") {
  for (const View& view : {View{two_to_31, 1, 1}, View{1, 1, two_to_31 + 3}, View{1, 3, two_to_31},
                           View{1 << 16, 2, 1 << 16}, View{two_to_31 / 49, 64, 49}, View{1 << 14, 1 << 14, 196}}) {
    INFO(view.outer << ", " << view.channels << ", " << view.inner);
    CHECK(view.values_per_channel() == view.outer * view.inner);
    CHECK(view.size() >= two_to_31);
    for (const Index threads : {1, 8}) {
      check_cover(view, Tiling::for_sums(view, {sizeof(float), 2, threads, 1024}));
      check_cover(view, Tiling::for_elements(view, {sizeof(float), 1, threads, 1024}));
    }
  }
  const std::array<Index, 4> shape{1 << 10, 3, 1 << 11, 1 << 11};
  const View view = batchnorm::detail::make_view(shape, Eigen::RowMajor, 1);
  CHECK(view.values_per_channel() == Index(1) << 32);
}

TEST_CASE("moments of more than 2^40 values merge without loss") {
  // The values 1, 2, 3, 6 doubled so many times: the mean stays 3 and the biased variance 3.5.
  Eigen::Tensor<double, 2> x(4, 1);
  x.setValues({{1}, {2}, {3}, {6}});
  batchnorm::Moments moments(1);
  moments.add(x);
  for (int i = 0; i < 40; ++i) moments.merge(moments);
  CHECK(moments.count() == Index(1) << 42);
  CHECK(moments.mean()(0) == 3);
  CHECK(moments.variance()(0) == 3.5);
  const double n = static_cast<double>(moments.count());
  CHECK(moments.variance(batchnorm::Variance::unbiased)(0) == 3.5 * n / (n - 1));
}

#ifdef BATCHNORM_TEST_REPEATED_MEMORY
TEST_CASE("2^31 elements and more are reached: a tensor made of one piece of memory, over and over") {
  constexpr std::size_t piece = std::size_t(1) << 22;
  constexpr Index channels = 2, inner = Index(piece / sizeof(float)), outer = two_to_31 / inner / channels + 1;
  constexpr std::size_t bytes = static_cast<std::size_t>(outer * channels) * piece;
  const int file = memfd_create("batchnorm", 0);
  REQUIRE(file >= 0);
  REQUIRE(ftruncate(file, static_cast<off_t>(2 * piece)) == 0);
  void* const place = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(place != MAP_FAILED);
  auto* const memory = static_cast<char*>(place);
  for (Index o = 0; o < outer; ++o) {  // both channels of a sample are the file
    void* const mapped = mmap(memory + static_cast<std::size_t>(o) * 2 * piece, 2 * piece, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_FIXED, file, 0);
    REQUIRE(mapped != MAP_FAILED);
  }
  Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor>> x(reinterpret_cast<float*>(memory), outer, channels,
                                                               inner);
  for (Index i = 0; i < inner; ++i) {
    x(0, 0, i) = static_cast<float>(i % 2);        // mean 1/2, variance 1/4
    x(0, 1, i) = static_cast<float>(4 * (i % 2));  // mean 2, variance 4
  }
  batchnorm::Moments moments(channels);
  moments.add(x);
  CHECK(x.size() > two_to_31);
  CHECK(moments.count() == outer * inner);
  CHECK(moments.mean()(0) == 0.5);
  CHECK(moments.mean()(1) == 2);
  CHECK(moments.variance()(0) == 0.25);
  CHECK(moments.variance()(1) == 4);
  munmap(place, bytes);
  close(file);
}
#endif
