# Runs PROGRAM on three processes, one of which is lost as WAY says, and expects an error of all within a minute.

execute_process(
  COMMAND "${MPIEXEC}" -n 3 "${PROGRAM}" "${WAY}" TIMEOUT 60 RESULT_VARIABLE result OUTPUT_VARIABLE output
  ERROR_VARIABLE output
)
if(NOT output MATCHES "5 steps")
  message(FATAL_ERROR "expected the processes to begin, got ${result}: ${output}")
endif()
if(output MATCHES "all steps" OR result STREQUAL "0" OR result MATCHES "timeout")
  message(FATAL_ERROR "expected an error within a minute, got ${result}: ${output}")
endif()
