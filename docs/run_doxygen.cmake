# Runs DOXYGEN on DOXYFILE and shows what it wrote to LOG, which is where all its warnings go.
execute_process(COMMAND "${DOXYGEN}" "${DOXYFILE}" RESULT_VARIABLE result)
if(EXISTS "${LOG}")
  file(READ "${LOG}" warnings)
endif()
if(NOT result EQUAL 0 OR NOT "${warnings}" STREQUAL "")
  message(FATAL_ERROR "${warnings}")
endif()
