# Compiles SOURCE, which must fail with the sentence of its first line ("// expects: ..."), as the first error and within
# the first 12 lines, or succeed if there is none.
# Run with -D COMPILER=... -D SOURCE=... -D INCLUDE=... -D EIGEN=first|second|... [-D PRECOMPILED=FOLDER]
# In FOLDER lies the umbrella header as GCC precompiles it, which it takes where a source includes it first.

file(STRINGS "${SOURCE}" expected LIMIT_COUNT 1 REGEX "^// expects: ")
string(REPLACE "// expects: " "" expected "${expected}")
string(REPLACE "|" ";" includes "${EIGEN}")
list(TRANSFORM includes PREPEND "-isystem")
list(PREPEND includes "-I${INCLUDE}")
set(lines 12)
if(PRECOMPILED)
  list(PREPEND includes "-I${PRECOMPILED}")
  set(lines 11)  # since the line of SOURCE that includes the header is not printed then
endif()
execute_process(
  COMMAND "${COMPILER}" -std=c++17 -fsyntax-only ${includes} "${SOURCE}"
  RESULT_VARIABLE result
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output
)
if(expected STREQUAL "")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "expected ${SOURCE} to compile, got:\n${output}")
  endif()
  return()
endif()
if(result EQUAL 0)
  message(FATAL_ERROR "expected ${SOURCE} not to compile, but it did")
endif()
# The sentence is the first error, and stands where someone sees it who reads no more than the beginning.
string(FIND "${output}" "error: " at)
string(SUBSTRING "${output}" 0 ${at} before)
string(REGEX REPLACE "[^\n]" "" before "${before}")
string(LENGTH "${before}" lines_before)
string(SUBSTRING "${output}" ${at} -1 first)
string(REGEX REPLACE "\n.*" "" first "${first}")
string(FIND "${first}" "${expected}" found)
if(found EQUAL -1 OR NOT lines_before LESS lines)
  message(FATAL_ERROR "expected the error \"${expected}\" first and in the first 12 lines, got:\n${output}")
endif()
string(REGEX MATCHALL "error: " errors "${output}")
list(LENGTH errors count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "expected that one error and no other, got ${count}:\n${output}")
endif()
