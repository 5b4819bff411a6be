# batchnorm/frozen_batch_norm.hpp brings no header of Eigen's that Eigen/Core alone does not, and of the standard library
# only some small ones. Run with -D COMPILER=... -D INCLUDE=... -D EIGEN=... -D WORK=...

cmake_policy(VERSION 3.25)

# The names of all files that a unit reads, as the preprocessor lists them.
function(included_files header result)
  file(WRITE "${WORK}/unit.cpp" "#include <${header}>\n")
  execute_process(
    COMMAND "${COMPILER}" -std=c++14 "-I${INCLUDE}" "-I${EIGEN}" -M "${WORK}/unit.cpp"
    RESULT_VARIABLE failed
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output
  )
  if(failed)
    message(FATAL_ERROR "${output}")
  endif()
  string(REGEX REPLACE "^[^:]*:|\\\\\n" " " output "${output}")
  string(REGEX MATCHALL "[^ \n]+" files "${output}")
  set("${result}" "${files}" PARENT_SCOPE)
endfunction()

included_files(Eigen/Core core)
included_files(batchnorm/frozen_batch_norm.hpp frozen)
list(LENGTH core count)
if(count LESS 100)
  message(FATAL_ERROR "expected Eigen/Core to include at least 100 files, got ${count}")
endif()

foreach(file IN LISTS frozen)
  if(file MATCHES "unsupported|Tensor|batchnorm/detail/(simd|kernels|schedule|algebra)/|interface/(error|eigen|tensor)\\.hpp")
    message(FATAL_ERROR "expected no header of tensors or of the layer, got ${file}")
  endif()
  if(file MATCHES "/(iostream|ostream|istream|fstream|regex|thread|mutex|future|condition_variable)$"
     AND NOT file IN_LIST core)
    message(FATAL_ERROR "expected no header of streams or threads, got ${file}")
  endif()
endforeach()

# <sstream> comes with some versions of Eigen/Core; our own headers do not ask for it.
file(GLOB ours "${INCLUDE}/batchnorm/frozen_batch_norm.hpp" "${INCLUDE}/batchnorm/detail/frozen/*.hpp")
foreach(file IN LISTS ours)
  file(STRINGS "${file}" lines REGEX "^#include <(.*stream|Eigen/[^C].*|unsupported/.*)>")
  if(lines)
    message(FATAL_ERROR "expected no stream and no header of Eigen's but Eigen/Core in ${file}, got ${lines}")
  endif()
endforeach()

# What is new beside Eigen/Core and ourselves is a handful.
list(REMOVE_ITEM frozen ${core})
list(FILTER frozen EXCLUDE REGEX "^${INCLUDE}|unit\\.cpp$")
list(LENGTH frozen count)
if(count GREATER 5)
  message(FATAL_ERROR "expected at most 5 more files than Eigen/Core includes, got ${count}: ${frozen}")
endif()
