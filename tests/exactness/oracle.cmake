# The target exactness_oracle: batch normalization in 100 decimal digits, by Boost.Multiprecision (headers only), which is
# a dependency of these tests alone. Without it there is no such target.

include_guard(GLOBAL)

find_path(BATCHNORM_BOOST_INCLUDE_DIR boost/multiprecision/cpp_bin_float.hpp HINTS "${Boost_INCLUDE_DIR}")
mark_as_advanced(BATCHNORM_BOOST_INCLUDE_DIR)
if(NOT BATCHNORM_BOOST_INCLUDE_DIR)
  return()
endif()

add_library(exactness_oracle STATIC "${CMAKE_CURRENT_LIST_DIR}/exact.cpp")
target_include_directories(exactness_oracle SYSTEM PRIVATE "${BATCHNORM_BOOST_INCLUDE_DIR}")
target_compile_features(exactness_oracle PUBLIC cxx_std_17)
# So many digits take their time, and nothing here is under test: neither sanitizers nor a lower level should add to it.
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(exactness_oracle PRIVATE -O2 -fno-sanitize=all)
endif()
