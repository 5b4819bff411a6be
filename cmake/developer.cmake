# Everything that only a person working on batchnorm builds: tests, examples, benchmarks. Nothing here reaches the target
# batchnorm::batchnorm, nor the packages fetched before.

if(CMAKE_VERSION VERSION_LESS 3.25)
  message(
    FATAL_ERROR
      "batchnorm: its tests, examples and benchmarks need CMake 3.25, and this is ${CMAKE_VERSION}. To use the library, "
      "for which CMake 3.14 is enough, set BATCHNORM_BUILD_TESTS, BATCHNORM_BUILD_EXAMPLES and "
      "BATCHNORM_BUILD_BENCHMARKS to OFF."
  )
endif()
include("${CMAKE_CURRENT_LIST_DIR}/developer_dependencies.cmake")

# batchnorm_skipped_test(NAME REASON [LABEL...]): stands in for a test that this machine lacks a tool for. ctest shows it
# as skipped, and the reason with --verbose.
function(batchnorm_skipped_test name reason)
  add_test(NAME "${name}" COMMAND "${CMAKE_COMMAND}" -E echo "skipped: ${reason}")
  set_tests_properties("${name}" PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: " LABELS "${ARGN}")
  message(STATUS "batchnorm: test \"${name}\" is skipped: ${reason}")
endfunction()

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(batchnorm_is_host AND NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)

option(BATCHNORM_WARNINGS "Compile the tests, examples and benchmarks with warnings as errors (the presets do)" OFF)
if(BATCHNORM_WARNINGS AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
  # Eigen's thread pool has fences, of which GCC says that its thread sanitizer does not see them.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
    add_compile_options(-Wno-tsan)
  endif()
elseif(BATCHNORM_WARNINGS AND MSVC)
  add_compile_options(/W4 /WX)
endif()

# The kernels, compiled once for all programs here that are compiled under the same flags, as batchnorm::kernels compiles
# them once for a program: it halves what the tests take to build. What looks at other flags, or at a unit that compiles
# its own, links to batchnorm::batchnorm.
if(BATCHNORM_BUILD_TESTS OR BATCHNORM_BUILD_FUZZERS)
  add_library(batchnorm_kernels_once STATIC "${PROJECT_SOURCE_DIR}/include/batchnorm/kernels.cpp")
  target_link_libraries(batchnorm_kernels_once PUBLIC batchnorm::batchnorm)
  target_compile_definitions(batchnorm_kernels_once PUBLIC BATCHNORM_EXTERN_KERNELS)
  # The fused ones, for units that include tests/fused_kernels.hpp.
  add_library(batchnorm_fused_kernels_once STATIC "${PROJECT_SOURCE_DIR}/tests/fused_kernels.cpp")
  target_link_libraries(batchnorm_fused_kernels_once PUBLIC batchnorm_kernels_once)
endif()

message(STATUS "batchnorm: Eigen ${Eigen3_VERSION}")
if(BATCHNORM_BUILD_TESTS)
  message(STATUS "batchnorm: Catch2 ${Catch2_VERSION}")
endif()
enable_testing()

include("${CMAKE_CURRENT_LIST_DIR}/developer_mpi.cmake")

foreach(part IN ITEMS examples tests benchmarks)
  string(TOUPPER "BATCHNORM_BUILD_${part}" wanted)
  if(${wanted} AND EXISTS "${PROJECT_SOURCE_DIR}/${part}/CMakeLists.txt")
    add_subdirectory("${PROJECT_SOURCE_DIR}/${part}" "${PROJECT_BINARY_DIR}/${part}")
  endif()
endforeach()

# The test presets with sanitizers leave these out: they look at other compilations than this one.
option(BATCHNORM_TEST_PACKAGING "Test the ways in which people take the library" ON)
if(BATCHNORM_BUILD_TESTS AND BATCHNORM_TEST_PACKAGING)
  add_subdirectory("${PROJECT_SOURCE_DIR}/tests/packaging" "${PROJECT_BINARY_DIR}/packaging")
endif()

option(BATCHNORM_BUILD_FUZZERS "Build the fuzz targets (Clang)" OFF)
if(BATCHNORM_BUILD_FUZZERS)
  add_subdirectory("${PROJECT_SOURCE_DIR}/tests/fuzz" "${PROJECT_BINARY_DIR}/fuzz")
endif()
