# A program whose units leave the kernels to another, which it lacks, must not link, and the linker must name what to do.
# Run with -D COMPILER=... -D INCLUDES=first|second|... -D SOURCES=first|second|... -D OUTPUT=...
string(REPLACE "|" ";" SOURCES "${SOURCES}")
string(REPLACE "|" ";" INCLUDES "${INCLUDES}")
list(TRANSFORM INCLUDES PREPEND "-I")
execute_process(
  COMMAND "${COMPILER}" -std=c++17 -O1 -DBATCHNORM_EXTERN_KERNELS ${INCLUDES} ${SOURCES} -o "${OUTPUT}"
  RESULT_VARIABLE result
  OUTPUT_VARIABLE output
  ERROR_VARIABLE output
)
if(result EQUAL 0)
  message(FATAL_ERROR "expected a program without kernels not to link, but it did")
elseif(NOT output MATCHES "undefined [^\n]*batchnorm_kernels_are_missing_include_batchnorm_kernels_hpp_in_one_unit")
  message(FATAL_ERROR "expected the linker to name the header to include, got:\n${output}")
endif()
