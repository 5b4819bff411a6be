// The version of the library, in the one place that states it: CMake, pkg-config and the vcpkg port read it from here.

#ifndef BATCHNORM_VERSION_HPP
#define BATCHNORM_VERSION_HPP

#define BATCHNORM_VERSION_MAJOR 0
#define BATCHNORM_VERSION_MINOR 2
#define BATCHNORM_VERSION_PATCH 0

#endif  // BATCHNORM_VERSION_HPP
