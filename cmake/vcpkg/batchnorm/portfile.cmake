# Installs from the checkout this port lies in; in a registry, vcpkg_from_github takes the place of this one line.
cmake_path(SET SOURCE_PATH NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../../..")

set(VCPKG_BUILD_TYPE release) # header-only

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DBATCHNORM_BUILD_TESTS=OFF
        -DBATCHNORM_BUILD_EXAMPLES=OFF
        -DBATCHNORM_BUILD_BENCHMARKS=OFF
        -DBATCHNORM_FETCH_DEPENDENCIES=OFF
        -DBATCHNORM_INSTALL=ON
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/batchnorm)
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
