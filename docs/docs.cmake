# The target `docs`: the reference from the public headers' comments and the guide from the pages beside this file, as
# HTML. A warning of Doxygen's is an error.

find_program(DOXYGEN doxygen)
if(NOT DOXYGEN)
  message(FATAL_ERROR "batchnorm: the documentation is made by Doxygen, which was not found")
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# The theme, which knows dark backgrounds and small screens; without it the pages have Doxygen's own looks. Doxygen has
# a dark mode itself from 1.9.5 on, which the theme wants to be off.
find_path(DOXYGEN_AWESOME_CSS doxygen-awesome.css PATH_SUFFIXES share/doxygen-awesome-css)
set(docs_stylesheets "\"${PROJECT_SOURCE_DIR}/docs/style.css\"")
set(docs_colours "")
if(DOXYGEN_AWESOME_CSS)
  string(PREPEND docs_stylesheets "\"${DOXYGEN_AWESOME_CSS}/doxygen-awesome.css\" "
         "\"${DOXYGEN_AWESOME_CSS}/doxygen-awesome-sidebar-only.css\" "
  )
  execute_process(COMMAND "${DOXYGEN}" --version OUTPUT_VARIABLE doxygen_version OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT doxygen_version VERSION_LESS 1.9.5)
    set(docs_colours "HTML_COLORSTYLE        = LIGHT")
  endif()
else()
  message(STATUS "batchnorm: the documentation's theme was not found (Debian: doxygen-awesome-css)")
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
