# The packages this project needs: each is found if it is installed, and otherwise fetched by pinned hash where
# BATCHNORM_FETCH_DEPENDENCIES allows it. To fetch one that is installed: -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON.
# Included, not called, so that what a package adds to CMAKE_MODULE_PATH is seen by the directories below.

include(FetchContent)

# Stops with what to do about a missing package, where fetching is off.
function(batchnorm_require_fetching package)
  if(NOT BATCHNORM_FETCH_DEPENDENCIES)
    message(
      FATAL_ERROR
        "batchnorm: ${package} was not found. Install it, or point ${package}_DIR or CMAKE_PREFIX_PATH at it, "
        "or set BATCHNORM_FETCH_DEPENDENCIES=ON to have it downloaded."
    )
  endif()
  message(STATUS "batchnorm: ${package} was not found and is fetched")
endfunction()

# Eigen, 3.4 or any later version. No version goes into find_package: Eigen 5 counts as incompatible with a request
# for 3.4, and the range 3.4...5 excludes Debian's 3.4.0.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 CONFIG QUIET GLOBAL)
  if(Eigen3_FOUND AND Eigen3_VERSION VERSION_LESS 3.4)
    message(FATAL_ERROR "batchnorm: Eigen 3.4 or later is needed, found ${Eigen3_VERSION} in ${Eigen3_DIR}")
  elseif(NOT Eigen3_FOUND)
    batchnorm_require_fetching(Eigen3)
    # Headers are all that is taken: a SOURCE_SUBDIR without a CMakeLists.txt keeps Eigen's own project out of this one.
    FetchContent_Declare(
      eigen3
      URL https://gitlab.com/libeigen/eigen/-/archive/5.0.1/eigen-5.0.1.tar.gz
      URL_HASH SHA256=e9c326dc8c05cd1e044c71f30f1b2e34a6161a3b6ecf445d56b53ff1669e3dec
      DOWNLOAD_EXTRACT_TIMESTAMP TRUE
      SOURCE_SUBDIR headers-only
    )
    FetchContent_MakeAvailable(eigen3)
    add_library(Eigen3::Eigen INTERFACE IMPORTED GLOBAL)
    set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${eigen3_SOURCE_DIR}")
    set(Eigen3_VERSION 5.0.1)
  endif()
endif()

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
      DOWNLOAD_EXTRACT_TIMESTAMP TRUE
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
      DOWNLOAD_EXTRACT_TIMESTAMP TRUE
      SYSTEM
    )
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    set(BENCHMARK_ENABLE_WERROR OFF)
    FetchContent_MakeAvailable(benchmark)
  endif()
endif()
