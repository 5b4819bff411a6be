# The plainest way: two -I flags and a compiler. Builds PROGRAM into OUTPUT and runs it.
execute_process(
  COMMAND "${COMPILER}" -std=c++17 "-I${INCLUDE}" -isystem "${EIGEN}" "${PROGRAM}" -o "${OUTPUT}" COMMAND_ERROR_IS_FATAL ANY
)
execute_process(COMMAND "${OUTPUT}" COMMAND_ERROR_IS_FATAL ANY)
