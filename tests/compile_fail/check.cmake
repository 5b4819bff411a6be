# Compiles SOURCE, which must fail with the sentence of its first line ("// expects: ..."), or succeed if there is none.
# Run with -D COMPILER=... -D SOURCE=... -D INCLUDES=first|second|...

file(STRINGS "${SOURCE}" expected LIMIT_COUNT 1 REGEX "^// expects: ")
string(REPLACE "// expects: " "" expected "${expected}")
string(REPLACE "|" ";" INCLUDES "${INCLUDES}")
list(TRANSFORM INCLUDES PREPEND "-I")
execute_process(
  COMMAND "${COMPILER}" -std=c++17 -fsyntax-only ${INCLUDES} "${SOURCE}"
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
string(FIND "${output}" "${expected}" found)
if(found EQUAL -1)
  message(FATAL_ERROR "expected the error \"${expected}\", got:\n${output}")
endif()
string(REGEX MATCHALL "error: " errors "${output}")
list(LENGTH errors count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "expected that one error and no other, got ${count}:\n${output}")
endif()
