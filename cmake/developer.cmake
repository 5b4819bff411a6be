# Everything that only a person working on batchnorm builds: tests, examples, benchmarks. Nothing here reaches the target
# batchnorm::batchnorm, nor the packages fetched before.

get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(PROJECT_IS_TOP_LEVEL AND NOT multi_config AND NOT CMAKE_BUILD_TYPE)
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

message(STATUS "batchnorm: Eigen ${Eigen3_VERSION}")
if(BATCHNORM_BUILD_TESTS)
  message(STATUS "batchnorm: Catch2 ${Catch2_VERSION}")
endif()
enable_testing()

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

# The demo runs as the last step of its build, on the person's own terminal, so that its progress bar can be seen.
if(TARGET train_digits)
  add_custom_target(
    demo
    COMMAND train_digits
    WORKING_DIRECTORY "${PROJECT_BINARY_DIR}"
    COMMENT "Training on digits with and without batch normalization"
    USES_TERMINAL
  )
endif()
