// Compiled with EIGEN_DEFAULT_DENSE_INDEX_TYPE=int, a switch of Eigen's own: then Eigen counts and indexes by 32 bits,
// and this library still by 64.

#include <batchnorm/batchnorm.hpp>

#include <cstdint>
#include <type_traits>

#include "catch.hpp"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

static_assert(std::is_same_v<Eigen::Index, int>);

TEST_CASE("a layer of tensors that are indexed by int normalizes") {
  batchnorm::BatchNorm<float, 2> bn(2);
  Eigen::Tensor<float, 2> x(4, 2), y(4, 2), dx(4, 2);
  x.setValues({{1, 10}, {2, 20}, {3, 30}, {4, 40}});
  bn.forward(x, y);
  bn.backward(x, y, dx);
  for (int c = 0; c < 2; ++c) {
    CHECK(y(0, c) + y(3, c) == Approx(0).margin(1e-6));
    CHECK(bn.bias_grad()(c) == Approx(0).margin(1e-6));
    CHECK(bn.weight_grad()(c) == Approx(4).epsilon(1e-4));
  }
  CHECK(bn.running_mean()(1) == Approx(2.5));
}

#ifdef __linux__
TEST_CASE("3.1e8 rows of half are summed, a tensor made of one piece of memory over and over") {
  constexpr std::size_t piece = std::size_t(1) << 22;
  constexpr std::int64_t pieces = 148;
  constexpr int rows = static_cast<int>(pieces * static_cast<std::int64_t>(piece / sizeof(Eigen::half)));
  const int file = memfd_create("batchnorm", 0);
  REQUIRE(file >= 0);
  REQUIRE(ftruncate(file, static_cast<off_t>(piece)) == 0);
  void* const place = mmap(nullptr, pieces * piece, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(place != MAP_FAILED);
  for (std::size_t i = 0; i < pieces; ++i) {
    void* const mapped =
        mmap(static_cast<char*>(place) + i * piece, piece, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    REQUIRE(mapped != MAP_FAILED);
  }
  Eigen::TensorMap<Eigen::Tensor<Eigen::half, 2, Eigen::RowMajor>> x(static_cast<Eigen::half*>(place), rows, 1);
  for (int i = 0; i < static_cast<int>(piece / sizeof(Eigen::half)); ++i) {
    x(i, 0) = Eigen::half(static_cast<float>(i % 2));  // mean 1/2, variance 1/4
  }
  batchnorm::Moments moments(1);
  moments.add(x);
  for (int i = 0; i < 8; ++i) moments.merge(moments);  // counts beyond an int
  CHECK(moments.count() == std::int64_t(rows) * 256);
  CHECK(moments.mean()(0) == 0.5);
  CHECK(moments.variance()(0) == 0.25);
  const auto sums = batchnorm::accumulate_gradients(x, x, 1, moments.mean(), moments.mean_residual());
  CHECK(sums.dy(0) == 0.5 * rows);
  CHECK(sums.dy_centered(0) == 0.25 * rows);
  munmap(place, pieces * piece);
  close(file);
}
#endif
