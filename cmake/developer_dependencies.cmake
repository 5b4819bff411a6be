# The packages that only the tests, examples and benchmarks need, found or fetched as Eigen is. Included, not called, so that what a
# package adds to CMAKE_MODULE_PATH is seen by the directories below.

# Catch2, 2.13 or 3.x.
if(BATCHNORM_BUILD_TESTS AND NOT TARGET Catch2::Catch2WithMain)
  find_package(Catch2 CONFIG QUIET)
  if(Catch2_FOUND AND Catch2_VERSION VERSION_LESS 2.13)
    message(FATAL_ERROR "batchnorm: Catch2 2.13 or later is needed, found ${Catch2_VERSION} in ${Catch2_DIR}")
  elseif(NOT Catch2_FOUND)
    batchnorm_require_fetching(Catch2)
    FetchContent_Declare(
      Catch2
      URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
      URL_HASH SHA256=c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c
      SYSTEM
    )
    set(CATCH_INSTALL_DOCS OFF)
    set(CATCH_INSTALL_EXTRAS OFF)
    FetchContent_MakeAvailable(Catch2)
    list(APPEND CMAKE_MODULE_PATH "${catch2_SOURCE_DIR}/extras")
    set(Catch2_VERSION 3.7.1)
  endif()
endif()

# Google Benchmark.
if(BATCHNORM_BUILD_BENCHMARKS AND NOT TARGET benchmark::benchmark)
  find_package(benchmark CONFIG QUIET)
  if(NOT benchmark_FOUND)
    batchnorm_require_fetching(benchmark)
    FetchContent_Declare(
      benchmark
      URL https://github.com/google/benchmark/archive/refs/tags/v1.9.5.tar.gz
      URL_HASH SHA256=9631341c82bac4a288bef951f8b26b41f69021794184ece969f8473977eaa340
      SYSTEM
    )
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    set(BENCHMARK_ENABLE_WERROR OFF)
    FetchContent_MakeAvailable(benchmark)
  endif()
endif()

# CLI11, for the examples, and nlohmann's JSON, for safetensors.
if(BATCHNORM_BUILD_EXAMPLES AND NOT TARGET CLI11::CLI11)
  find_package(CLI11 CONFIG QUIET)
  if(NOT CLI11_FOUND)
    batchnorm_require_fetching(CLI11)
    FetchContent_Declare(
      CLI11
      URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
      URL_HASH SHA256=f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a
      SYSTEM
    )
    FetchContent_MakeAvailable(CLI11)
  endif()
endif()
if((BATCHNORM_BUILD_EXAMPLES OR BATCHNORM_BUILD_TESTS OR BATCHNORM_BUILD_FUZZERS)
   AND NOT TARGET nlohmann_json::nlohmann_json)
  batchnorm_require_fetching(nlohmann_json)
  FetchContent_Declare(
    nlohmann_json
    URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
    URL_HASH SHA256=d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d
    SYSTEM
  )
  FetchContent_MakeAvailable(nlohmann_json)
endif()
