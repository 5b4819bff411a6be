# Runs PROGRAM (no_exceptions.cpp), which must train, say what is wrong, and abort.

execute_process(COMMAND "${PROGRAM}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE error)
if(NOT output STREQUAL "trained\n")
  message(FATAL_ERROR "expected the program to train and then stop, got: ${output}${error}")
endif()
if(NOT error STREQUAL "batchnorm: expected 64 channels on axis 1, got 32 in shape [8, 32, 7, 7]\n")
  message(FATAL_ERROR "expected the message of the error on stderr, got: ${error}")
endif()
if(result EQUAL 0)
  message(FATAL_ERROR "expected the program to abort, got exit status 0")
endif()
