# Windows: the program compiled by MinGW-w64, whose threads are POSIX ones, and run by Wine at every instruction set. That
# takes minutes, so it is left to BATCHNORM_PORTABLE_FULL.

set(windows_claims "Windows is as exact as Linux" "Windows gives the same bits with any number of threads")
if(NOT BATCHNORM_PORTABLE_FULL)
  foreach(claim IN LISTS windows_claims)
    batchnorm_skipped_test("${claim}" "BATCHNORM_PORTABLE_FULL is off (cmake/matrix.sh full)" portable)
  endforeach()
  return()
endif()

find_program(BATCHNORM_MINGW_COMPILER NAMES x86_64-w64-mingw32-g++-posix)
find_program(BATCHNORM_MINGW_OBJDUMP NAMES x86_64-w64-mingw32-objdump)
find_program(BATCHNORM_WINE NAMES wine64 HINTS /usr/lib/wine)
mark_as_advanced(BATCHNORM_MINGW_COMPILER BATCHNORM_MINGW_OBJDUMP BATCHNORM_WINE)

set(levels -O0 -O1 -O2 -O3)

if(NOT BATCHNORM_MINGW_COMPILER OR NOT BATCHNORM_MINGW_OBJDUMP OR NOT BATCHNORM_WINE)
  foreach(claim IN LISTS windows_claims)
    batchnorm_skipped_test(
      "${claim}" "MinGW-w64 or Wine was not found (Debian: g++-mingw-w64-x86-64-posix, wine64)" portable
    )
  endforeach()
  return()
endif()

# Wine's C: drive, made by its first program and not by several tests at once.
set(wine_environment WINEDEBUG=-all "WINEPREFIX=${CMAKE_CURRENT_BINARY_DIR}/wine")
add_test(NAME "Wine starts" COMMAND "${BATCHNORM_WINE}" wineboot --init)
set_tests_properties(
  "Wine starts" PROPERTIES LABELS portable FIXTURES_SETUP wine ENVIRONMENT "${wine_environment}" TIMEOUT 300
)

# windows_test(NAME PROGRAM WORDS... [ENVIRONMENT VARIABLE=VALUE])
function(windows_test name program)
  cmake_parse_arguments(arg "" "ENVIRONMENT" "" ${ARGN})
  add_test(NAME "${name}" COMMAND "${BATCHNORM_WINE}" "${CMAKE_CURRENT_BINARY_DIR}/${program}" ${arg_UNPARSED_ARGUMENTS})
  set_tests_properties(
    "${name}" PROPERTIES LABELS portable FIXTURES_REQUIRED wine SKIP_RETURN_CODE 77 ENVIRONMENT
                         "${wine_environment};${arg_ENVIRONMENT}"
  )
endfunction()

# As docs/performance.md tells those to do who want AVX there. Without optimization the object has too many sections for
# the usual format.
foreach(level IN LISTS levels)
  set(program "portable_test_windows${level}.exe")
  cross_program(
    ${program} portable_test.cpp "${BATCHNORM_MINGW_COMPILER}" ${level} -DBATCHNORM_WINDOWS_AVX
    -Wa,-muse-unaligned-vector-move -Wa,-mbig-obj
  )
  foreach(isa IN ITEMS baseline avx2 avx512)
    windows_test(
      "Windows is as exact as Linux (${level}, ${isa})" ${program} exact ${isa} ENVIRONMENT BATCHNORM_MAX_ISA=${isa}
    )
    windows_test(
      "Windows gives the same bits with any number of threads (${level}, ${isa})" ${program} threads ${isa} ENVIRONMENT
      BATCHNORM_MAX_ISA=${isa}
    )
  endforeach()
  add_test(
    NAME "no vector register is moved as if Windows' stack were aligned to it (${level})"
    COMMAND "${CMAKE_COMMAND}" "-DOBJDUMP=${BATCHNORM_MINGW_OBJDUMP}" "-DPROGRAM=${CMAKE_CURRENT_BINARY_DIR}/${program}"
            -P "${CMAKE_CURRENT_SOURCE_DIR}/aligned_moves.cmake"
  )
  set_tests_properties(
    "no vector register is moved as if Windows' stack were aligned to it (${level})" PROPERTIES LABELS portable
  )
endforeach()

# Without that macro no compiler of the kind is trusted with more than it does of itself.
cross_program(supported_isa.exe supported_isa.cpp "${BATCHNORM_MINGW_COMPILER}" -O2)
windows_test("GCC for Windows is not asked for AVX unless it is told to be safe" supported_isa.exe baseline)
