// The kernels for float, double, Eigen::half and Eigen::bfloat16, compiled once for a program of many units.
//
// Include this in one unit of a program, all of whose units are compiled with BATCHNORM_EXTERN_KERNELS defined and with
// the same version of the library and flags for instruction sets, arithmetic and exceptions: it compiles the kernels,
// and the others leave them to it, which spares each most of what a layer costs to compile. In CMake linking to
// batchnorm::kernels in place of batchnorm::batchnorm does all of this. Without such a unit the program does not link,
// and the linker names a symbol that begins with batchnorm_kernels_are_missing; a shared library that hides its symbols
// needs one of its own. Without the macro nothing is needed: each unit compiles what it uses.

#ifndef BATCHNORM_KERNELS_HPP
#define BATCHNORM_KERNELS_HPP

#include "batchnorm/detail/kernels/instances.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
BATCHNORM_KERNELS(template)
template void batchnorm_kernels_are_missing_include_batchnorm_kernels_hpp_in_one_unit<void>();
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_KERNELS_HPP
