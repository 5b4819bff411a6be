// Eigen's tensors, and everything in which Eigen 3.4 and 5 differ.

#ifndef BATCHNORM_DETAIL_INTERFACE_EIGEN_HPP
#define BATCHNORM_DETAIL_INTERFACE_EIGEN_HPP

// By the include guards of Eigen's headers, of which the second is there only where they have threads.
#if defined(EIGEN_USE_THREADS) && defined(EIGEN_CXX11_TENSOR_TENSOR_H) && \
    !defined(EIGEN_CXX11_TENSOR_TENSOR_DEVICE_THREAD_POOL_H)
#error "batchnorm: define EIGEN_USE_THREADS before the first include of Eigen's tensors, or by -DEIGEN_USE_THREADS"
#endif

#include <unsupported/Eigen/CXX11/Tensor>

#include <cstddef>
#include <type_traits>

#include "batchnorm/detail/interface/config.hpp"

#if BATCHNORM_CPLUSPLUS < 201703L
#error "batchnorm needs C++17 or later"
#endif
#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "batchnorm needs Eigen 3.4 or later"
#endif

// What FrozenBatchNorm promises holds under fast math too, and its header does without this one. GCC makes an error of
// #warning under -Werror even in headers that it takes for the system's, hence the macro.
#if BATCHNORM_FAST_MATH && !defined(BATCHNORM_NO_FAST_MATH_WARNING)
#if defined(__GNUC__) || defined(__clang__)
#warning "batchnorm: fast math: exactness is not promised (BATCHNORM_NO_FAST_MATH_WARNING turns this warning off)"
#elif BATCHNORM_MSVC
#pragma message("batchnorm: fast math: exactness is not promised (BATCHNORM_NO_FAST_MATH_WARNING turns this off)")
#endif
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// The name of the namespace tells std::ptrdiff_t from other types by their first word.
constexpr bool begins_with_std(const char* word) { return word[0] == '_' && word[1] == 's' && word[2] == 't'; }
static_assert(!begins_with_std(BATCHNORM_TEXT(BATCHNORM_ABI_INDEX)) || std::is_same_v<Eigen::Index, std::ptrdiff_t>,
              "batchnorm: write EIGEN_DEFAULT_DENSE_INDEX_TYPE without std::, as in int32_t");

// Eigen declares ThreadPoolDevice always and defines it only under EIGEN_USE_THREADS, which is the user's to define.
// A comparison of pointers asks for no definition.
template <class Device>
inline constexpr bool is_thread_pool_device = std::is_convertible_v<const Device*, const Eigen::ThreadPoolDevice*>;

template <class Device, class Expression, class Value>
void assign_on(const Device& device, const Expression& expression, Value& value) {
  using Assign = Eigen::TensorAssignOp<Value, const Expression>;
  const auto dimensions = Eigen::TensorEvaluator<const Expression, Device>(expression, device).dimensions();
  value.resize(dimensions);
  const Assign assign(value, expression);
  Eigen::internal::TensorExecutor<const Assign, Device>::run(assign, device);
}

// Makes `value` the value of the expression: on the device's threads, or on the caller's own where the device has none
// or the caller is one of them (which Eigen would leave waiting for itself).
template <class Device, class Expression, class Value>
void evaluate(const Device& device, const Expression& expression, Value& value) {
  if constexpr (is_thread_pool_device<Device>) {
    if (device.currentThreadId() == -1) return assign_on<Eigen::ThreadPoolDevice>(device, expression, value);
  }
  assign_on(Eigen::DefaultDevice(), expression, value);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_EIGEN_HPP
