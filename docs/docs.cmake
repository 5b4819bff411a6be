# The target `docs`: the reference from the public headers' comments and the guide from the pages beside this file, as
# HTML. A warning of Doxygen's is an error.

find_program(DOXYGEN doxygen)
if(NOT DOXYGEN)
  message(FATAL_ERROR "batchnorm: the documentation is made by Doxygen, which was not found")
endif()
set(docs_output "${PROJECT_BINARY_DIR}/docs")
configure_file("${PROJECT_SOURCE_DIR}/docs/Doxyfile.in" "${PROJECT_BINARY_DIR}/Doxyfile" @ONLY)
add_custom_target(
  docs
  COMMAND "${CMAKE_COMMAND}" -E make_directory "${docs_output}"
  COMMAND "${CMAKE_COMMAND}" "-DDOXYGEN=${DOXYGEN}" "-DDOXYFILE=${PROJECT_BINARY_DIR}/Doxyfile"
          "-DLOG=${PROJECT_BINARY_DIR}/doxygen-warnings.log" -P "${PROJECT_SOURCE_DIR}/docs/run_doxygen.cmake"
  COMMAND "${CMAKE_COMMAND}" -E echo "The pages begin at ${docs_output}/html/index.html"
  VERBATIM
)
