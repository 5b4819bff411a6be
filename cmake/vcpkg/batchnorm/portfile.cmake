# Installs from the checkout this port lies in; in a registry, vcpkg_from_github takes the place of this one line. vcpkg
# looks at the files of a port alone to tell whether a package is the same as one that it has, and does not see that the
# checkout has changed: the README says how to have it built anew.
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

vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
