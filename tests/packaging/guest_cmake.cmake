# The files of PROJECT that a guest's CMake reads use nothing newer than CMake 3.14: no command, argument or variable of
# the list below, which names what came later and could well be used here.

cmake_minimum_required(VERSION 3.25)

set(guest_files CMakeLists.txt cmake/dependencies.cmake cmake/install.cmake cmake/batchnorm-config.cmake.in)
set(not_for_guests cmake/developer.cmake docs/docs.cmake)

# "VERSION REGEX": what the version of CMake brought.
set(newer
    "3.15 list\\( *(PREPEND|POP_BACK|POP_FRONT)"
    "3.15 message\\( *(NOTICE|VERBOSE|DEBUG|TRACE)"
    "3.15 --install"
    "3.16 target_precompile_headers\\("
    "3.17 ZIP_LISTS"
    "3.17 CMAKE_CURRENT_FUNCTION"
    "3.17 message\\( *CHECK_"
    "3.18 cmake_language\\("
    "3.18 file\\( *(CONFIGURE|ARCHIVE)"
    "3.18 string\\( *HEX"
    "3.18 find_(path|file|program|library)\\([^)]* REQUIRED"
    "3.19 string\\( *JSON"
    "3.19 file\\( *(REAL_PATH|CHMOD)"
    "3.19 COMMAND_ERROR_IS_FATAL"
    "3.20 cmake_path\\("
    "3.21 _IS_TOP_LEVEL"
    "3.21 file\\( *COPY_FILE"
    "3.23 FILE_SET"
    "3.24 find_package\\([^)]* GLOBAL"
    "3.24 PATH_EQUAL"
    "3.24 DOWNLOAD_EXTRACT_TIMESTAMP"
    "3.24 (OVERRIDE_FIND_PACKAGE|FIND_PACKAGE_ARGS)"
    "3.25 block\\("
    "3.25 return\\( *PROPAGATE"
    "3.25 FetchContent_Declare\\([^)]* SYSTEM"
    "3.28 FetchContent_Declare\\([^)]* EXCLUDE_FROM_ALL"
)

# The file without its comments.
function(read_code file variable)
  file(READ "${PROJECT}/${file}" text)
  string(REGEX REPLACE "#[^\n]*" "" text "${text}")
  string(REGEX REPLACE "[ \n]+" " " text "${text}")
  set(${variable} "${text}" PARENT_SCOPE)
endfunction()

set(failures "")
foreach(file IN LISTS guest_files)
  read_code(${file} text)
  foreach(one IN LISTS newer)
    string(REGEX MATCH "^([0-9.]+) (.*)$" one "${one}")
    set(version "${CMAKE_MATCH_1}")
    string(REGEX MATCH "${CMAKE_MATCH_2}" found "${text}")
    if(found)
      string(APPEND failures "${file}: '${found}' needs CMake ${version}\n")
    endif()
  endforeach()
endforeach()

# The version that is asked for, and no file that is read and not looked at here.
read_code(CMakeLists.txt text)
if(NOT text MATCHES "cmake_minimum_required\\( ?VERSION 3\\.14[. ]")
  string(APPEND failures "CMakeLists.txt does not ask for CMake 3.14\n")
endif()
string(REGEX MATCHALL "include\\( ?[^ )]*/[^ )]*" includes "${text}")
list(LENGTH includes count)
foreach(one IN LISTS includes)
  string(REGEX REPLACE "include\\( ?" "" one "${one}")
  if(NOT one IN_LIST guest_files AND NOT one IN_LIST not_for_guests)
    string(APPEND failures "CMakeLists.txt includes ${one}, which is not looked at\n")
  endif()
endforeach()
if(count LESS 3)
  string(APPEND failures "nothing was looked at\n")
endif()
if(failures)
  message(FATAL_ERROR "${failures}")
endif()
