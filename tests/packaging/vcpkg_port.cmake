# Runs the portfile in PORT_DIR as vcpkg would, with stand-ins that do what the documentation of vcpkg's functions says,
# and checks what vcpkg's own post-build checks look for. Installs into PACKAGES.

set(PORT batchnorm)
set(CURRENT_PACKAGES_DIR "${PACKAGES}")
file(REMOVE_RECURSE "${PACKAGES}" "${WORK}")

function(vcpkg_cmake_configure)
  cmake_parse_arguments(arg "" "SOURCE_PATH" "OPTIONS" ${ARGN})
  execute_process(
    COMMAND
      "${CMAKE_COMMAND}" -S "${arg_SOURCE_PATH}" -B "${WORK}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
      "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" -DCMAKE_BUILD_TYPE=Release "-DEigen3_DIR=${Eigen3_DIR}"
      --warn-unused-vars ${arg_OPTIONS} COMMAND_ERROR_IS_FATAL ANY
  )
endfunction()
function(vcpkg_cmake_install)
  execute_process(COMMAND "${CMAKE_COMMAND}" --build "${WORK}" --target install COMMAND_ERROR_IS_FATAL ANY)
endfunction()
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(arg "" "CONFIG_PATH" "" ${ARGN})
  file(GLOB files "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/*.cmake")
  file(COPY ${files} DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
  cmake_path(GET arg_CONFIG_PATH PARENT_PATH parent)
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/${parent}")
  # The files now lie one folder higher, which vcpkg corrects where they compute the prefix.
  file(GLOB files "${CURRENT_PACKAGES_DIR}/share/${PORT}/*.cmake")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    string(REPLACE [[get_filename_component(_IMPORT_PREFIX "${CMAKE_CURRENT_LIST_FILE}" PATH)
get_filename_component(_IMPORT_PREFIX "${_IMPORT_PREFIX}" PATH)]]
      [[get_filename_component(_IMPORT_PREFIX "${CMAKE_CURRENT_LIST_FILE}" PATH)]] text "${text}"
    )
    string(REPLACE "\${CMAKE_CURRENT_LIST_DIR}/../../../" "\${CMAKE_CURRENT_LIST_DIR}/../../" text "${text}")
    file(WRITE "${file}" "${text}")
  endforeach()
endfunction()
function(vcpkg_fixup_pkgconfig)
  file(GLOB_RECURSE files "${CURRENT_PACKAGES_DIR}/*.pc")
  if(NOT files STREQUAL "${CURRENT_PACKAGES_DIR}/share/pkgconfig/batchnorm.pc")
    message(FATAL_ERROR "pkg-config files: ${files}")
  endif()
endfunction()
function(vcpkg_install_copyright)
  cmake_parse_arguments(arg "" "" "FILE_LIST" ${ARGN})
  file(COPY_FILE "${arg_FILE_LIST}" "${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright")
endfunction()

# A portfile is a script of its own: its CMAKE_CURRENT_LIST_DIR is its folder, as here.
include("${PORT_DIR}/portfile.cmake")

file(READ "${PORT_DIR}/vcpkg.json" manifest)
string(JSON port_version GET "${manifest}" version)
string(JSON port_name GET "${manifest}" name)
if(NOT port_version STREQUAL VERSION OR NOT port_name STREQUAL PORT)
  message(FATAL_ERROR "vcpkg.json says ${port_name} ${port_version}, the library is ${PORT} ${VERSION}")
endif()
foreach(file IN ITEMS copyright batchnorm-config.cmake batchnorm-config-version.cmake batchnorm-targets.cmake)
  if(NOT EXISTS "${PACKAGES}/share/batchnorm/${file}")
    message(FATAL_ERROR "the port does not install share/batchnorm/${file}")
  endif()
endforeach()
foreach(folder IN ITEMS lib debug share/cmake)
  if(EXISTS "${PACKAGES}/${folder}")
    message(FATAL_ERROR "the port of a header-only library leaves ${folder}")
  endif()
endforeach()
if(NOT EXISTS "${PACKAGES}/include/batchnorm/batchnorm.hpp")
  message(FATAL_ERROR "the port installs no headers")
endif()
if(NOT EXISTS "${PACKAGES}/include/batchnorm/kernels.cpp")
  message(FATAL_ERROR "the port does not install the unit of the kernels")
endif()
