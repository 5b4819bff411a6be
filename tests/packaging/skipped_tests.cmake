# Configures PROJECT in WORK as on a machine that has none of the tools that some tests want, and expects these tests to be
# shown as skipped. (A variable that is OFF has been searched for, and in vain.)

cmake_minimum_required(VERSION 3.25)

set(tests
    "interface_tests has no memory error or leak"
    "layer_tests has no memory error or leak"
    "no result differs from the exact one"
    "no sequence of calls in the fuzzer's corpus differs from the exact results"
    "state files go to numpy and come back"
    "state files go to torch and come back"
    "AArch64 is as exact as x86-64"
    "AArch64 gives the same bits with any number of threads"
    "Windows is as exact as Linux"
    "Windows gives the same bits with any number of threads"
    "processes share a batch by Open MPI"
    "processes share a batch by MPICH"
    "packaging.mpi_subdirectory"
    "packaging.mpi"
    "packaging.pkg_config"
    "docs.pages"
    "packaging.units_apart"
    "packaging.extern_kernels_are_elsewhere"
    "packaging.clang_tidy"
)

file(REMOVE_RECURSE "${WORK}")
execute_process(
  COMMAND
    "${CMAKE_COMMAND}" -S "${PROJECT}" -B "${WORK}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
    "-DEigen3_DIR=${Eigen3_DIR}" "-DCatch2_DIR=${Catch2_DIR}" -DBATCHNORM_BUILD_EXAMPLES=OFF
    -DBATCHNORM_BUILD_BENCHMARKS=OFF -DBATCHNORM_INSTALL=ON -DVALGRIND_COMMAND=OFF -DBATCHNORM_BOOST_INCLUDE_DIR=OFF
    -DBATCHNORM_AARCH64_COMPILER=OFF -DBATCHNORM_MINGW_COMPILER=OFF -DPKG_CONFIG=OFF
    -DBATCHNORM_STATES_PYTHON=OFF -DOBJDUMP=OFF -DCLANG_TIDY=OFF
    -DCMAKE_DISABLE_FIND_PACKAGE_Python3=ON
    -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON -DBATCHNORM_WRAPPER_openmpi=OFF -DBATCHNORM_WRAPPER_mpich=OFF
  OUTPUT_VARIABLE output ERROR_VARIABLE output COMMAND_ERROR_IS_FATAL ANY
)
foreach(test IN LISTS tests)
  string(REPLACE "." "\\." pattern "${test}")
  execute_process(
    COMMAND "${CMAKE_CTEST_COMMAND}" --test-dir "${WORK}" --tests-regex "^${pattern}$" OUTPUT_VARIABLE output
    ERROR_VARIABLE output
  )
  if(NOT output MATCHES "\\*\\*\\*Skipped")
    message(SEND_ERROR "expected \"${test}\" to be skipped, got: ${output}")
  endif()
endforeach()
