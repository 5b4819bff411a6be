# MPI, for those who work on batchnorm: the implementations that are there, and tests that run on several processes.
#
# Debian has two side by side, Open MPI and MPICH. One of them is the system's, which find_package(MPI) finds and
# batchnorm::mpi links; the other is tested, too, by way of its compiler wrapper.

set(batchnorm_mpis "") # the implementations' names as in a target's: openmpi, mpich, mpi
# Their sanitizers' findings in MPI libraries are not ours to mend. (The exchange between threads is tested under each.)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  set(batchnorm_no_mpi "MPI is not tested under a sanitizer")
else()
  set(batchnorm_no_mpi "MPI was not found (Debian: libopenmpi-dev openmpi-bin)")
  set(MPI_CXX_SKIP_MPICXX ON) # the C++ bindings of MPI-2
  find_package(MPI COMPONENTS CXX QUIET)
endif()

# batchnorm_add_mpi(NAME TARGET MPIEXEC): one more implementation to test.
macro(batchnorm_add_mpi name target mpiexec)
  list(APPEND batchnorm_mpis ${name})
  set(batchnorm_mpi_target_${name} ${target})
  set(batchnorm_mpiexec_${name} "${mpiexec}")
endmacro()

if(MPI_CXX_FOUND AND MPIEXEC_EXECUTABLE)
  cmake_path(GET MPIEXEC_EXECUTABLE FILENAME launcher)
  file(REAL_PATH "${MPIEXEC_EXECUTABLE}" real_launcher)
  if("${real_launcher}" MATCHES "openmpi|orterun|prterun")
    batchnorm_add_mpi(openmpi batchnorm::mpi "${MPIEXEC_EXECUTABLE}")
  elseif("${real_launcher}" MATCHES "mpich|hydra")
    batchnorm_add_mpi(mpich batchnorm::mpi "${MPIEXEC_EXECUTABLE}")
  else()
    batchnorm_add_mpi(mpi batchnorm::mpi "${MPIEXEC_EXECUTABLE}")
  endif()
endif()

if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  foreach(name IN ITEMS openmpi mpich)
    find_program(BATCHNORM_WRAPPER_${name} mpicxx.${name})
    find_program(BATCHNORM_MPIEXEC_${name} mpiexec.${name})
    mark_as_advanced(BATCHNORM_WRAPPER_${name} BATCHNORM_MPIEXEC_${name})
    if(name IN_LIST batchnorm_mpis OR NOT BATCHNORM_WRAPPER_${name} OR NOT BATCHNORM_MPIEXEC_${name})
      continue()
    endif()
    execute_process(COMMAND "${BATCHNORM_WRAPPER_${name}}" -show OUTPUT_VARIABLE command COMMAND_ERROR_IS_FATAL ANY)
    separate_arguments(command UNIX_COMMAND "${command}")
    add_library(batchnorm_mpi_${name} INTERFACE IMPORTED)
    target_link_libraries(batchnorm_mpi_${name} INTERFACE batchnorm::batchnorm)
    # The C++ bindings of either, which we do not use.
    target_compile_definitions(batchnorm_mpi_${name} INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
    foreach(flag IN LISTS command)
      if(flag MATCHES "^-I(.+)")
        target_include_directories(batchnorm_mpi_${name} INTERFACE "${CMAKE_MATCH_1}")
      elseif(flag MATCHES "^-L(.+)")
        target_link_directories(batchnorm_mpi_${name} INTERFACE "${CMAKE_MATCH_1}")
      elseif(flag MATCHES "^-l")
        target_link_libraries(batchnorm_mpi_${name} INTERFACE "${flag}")
      endif()
    endforeach()
    batchnorm_add_mpi(${name} batchnorm_mpi_${name} "${BATCHNORM_MPIEXEC_${name}}")
  endforeach()
endif()
message(STATUS "batchnorm: MPI: ${batchnorm_mpis}")

# What lets either implementation run more processes than there are processors, or than are idle, as root, in a
# container: they leave a processor to others while they wait, and are not bound to one that others use. (PRTE is Open MPI's launcher since version 5.)
set(batchnorm_mpi_environment
    OMPI_ALLOW_RUN_AS_ROOT=1
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_mpi_yield_when_idle=1
    OMPI_MCA_hwloc_base_binding_policy=none
    OMPI_MCA_btl_vader_single_copy_mechanism=none
    PRTE_ALLOW_RUN_AS_ROOT=1
    PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    PRTE_MCA_hwloc_default_binding_policy=none
)

# All that the tests with the label mpi need.
add_custom_target(batchnorm_mpi)

# batchnorm_mpi_executable(TARGET SOURCES...): TARGET_<implementation> for each that is there.
function(batchnorm_mpi_executable target)
  foreach(mpi IN LISTS batchnorm_mpis)
    add_executable(${target}_${mpi} ${ARGN})
    add_dependencies(batchnorm_mpi ${target}_${mpi})
    target_link_libraries(${target}_${mpi} PRIVATE ${batchnorm_mpi_target_${mpi}})
  endforeach()
endfunction()

# batchnorm_mpi_properties(TEST PROCESSES): what a test on several processes needs of ctest.
function(batchnorm_mpi_properties test processes)
  set_tests_properties(
    "${test}" PROPERTIES LABELS mpi PROCESSORS ${processes} TIMEOUT 300 ENVIRONMENT "${batchnorm_mpi_environment}"
  )
endfunction()
