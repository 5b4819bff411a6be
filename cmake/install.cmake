# `cmake --install`: the headers and the unit of the kernels, a CMake package and a pkg-config file, all free of absolute paths.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/batchnorm")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/batchnorm" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.hpp" PATTERN "kernels.cpp"
)
install(TARGETS batchnorm EXPORT batchnorm-targets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT batchnorm-targets NAMESPACE batchnorm:: DESTINATION "${package_dir}")

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/batchnorm-config.cmake.in" "${PROJECT_BINARY_DIR}/batchnorm-config.cmake"
  INSTALL_DESTINATION "${package_dir}" PATH_VARS CMAKE_INSTALL_INCLUDEDIR NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO
)
# Before 1.0 a minor version may break its users; a header-only package fits every architecture.
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/batchnorm-config-version.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT
)
install(FILES "${PROJECT_BINARY_DIR}/batchnorm-config.cmake" "${PROJECT_BINARY_DIR}/batchnorm-config-version.cmake"
        DESTINATION "${package_dir}"
)

# pkg-config puts the folder of the file in pcfiledir, so the way from there to the prefix is all it needs.
file(RELATIVE_PATH pc_to_prefix "/prefix/${CMAKE_INSTALL_DATADIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
  set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/batchnorm.pc.in" "${PROJECT_BINARY_DIR}/batchnorm.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/batchnorm.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
