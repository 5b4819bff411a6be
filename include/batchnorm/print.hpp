// A layer as text, as PyTorch shows one.

#ifndef BATCHNORM_PRINT_HPP
#define BATCHNORM_PRINT_HPP

#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>

#include "batchnorm/batch_norm.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T>
constexpr const char* scalar_name() {
  if constexpr (std::is_same_v<T, float>) {
    return "float";
  } else if constexpr (std::is_same_v<T, double>) {
    return "double";
  } else if constexpr (std::is_same_v<T, long double>) {
    return "long double";
  } else if constexpr (std::is_same_v<T, Eigen::half>) {
    return "Eigen::half";
  } else if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    return "Eigen::bfloat16";
  } else {
    return "scalar";
  }
}

/// Numbers look the same whatever the flags and the locale of the stream that the text is meant for.
inline std::ostringstream plain_stream() {
  std::ostringstream result;
  result.imbue(std::locale::classic());
  return result;
}

/// The settings of a layer, one after another: those that PyTorch shows, then those that are not at their defaults.
class SettingsText {
 public:
  BATCHNORM_COLD explicit SettingsText(const BatchNormOptions& options) {
    if (options.num_features() == 0) {
      out_ << "lazy";
    } else {
      out_ << options.num_features();
    }
    add("eps", options.epsilon());
    if (options.momentum()) {
      add("momentum", *options.momentum());
    } else {
      add("momentum", "None");
    }
    if (options.scale() == options.shift()) {
      add("affine", options.affine());
    } else {
      add("scale", options.scale());
      add("shift", options.shift());
    }
    add("track_running_stats", options.track_running_stats());
    if (options.running_variance() == Variance::biased) add("running_variance", "biased");
    if (options.channel_axis() != 1) add("channel_axis", options.channel_axis());
    if (options.single_value() != SingleValue::error) add("single_value", name(options.single_value()));
    if (options.activation() == Activation::relu) {
      add("activation", "relu");
    } else if (options.activation() != Activation::none) {
      add("activation", "leaky_relu(");
      out_ << options.activation().slope() << ')';
    }
    if (options.virtual_batch_size() != 0) add("virtual_batch_size", options.virtual_batch_size());
    if (options.renorm()) {
      add("renorm", "(");
      out_ << options.renorm_r_max() << ", " << options.renorm_d_max() << ')';
    }
  }

  template <class Value>
  void add(const char* setting, const Value& value) {
    out_ << ", " << setting << '=' << value;
  }
  void add(const char* setting, bool value) { add(setting, value ? "True" : "False"); }

  std::string text() const { return out_.str(); }

 private:
  static const char* name(SingleValue value) {
    switch (value) {
      case SingleValue::skip_update:
        return "skip_update";
      case SingleValue::use_running:
        return "use_running";
      case SingleValue::allow:
        return "allow";
      case SingleValue::error:
        break;
    }
    return "error";
  }

  std::ostringstream out_ = plain_stream();
};

}  // namespace detail

/// Writes a layer as PyTorch shows one, in one line: the type, the number of channels ("lazy" where there is none yet),
/// epsilon, momentum ("None" for the cumulative average), and whatever else is not as it is by default, the mode
/// included.
///
///     std::cout << bn;
///     // BatchNorm<float, 4>(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
template <class T, int Dims>
std::ostream& operator<<(std::ostream& out, const BatchNorm<T, Dims>& layer) {
  detail::SettingsText settings(layer.options());
  if (!layer.is_training()) settings.add("training", false);
  if (layer.check_backward()) settings.add("check_backward", true);
  std::ostringstream text = detail::plain_stream();
  text << "BatchNorm<" << detail::scalar_name<T>() << ", " << Dims << ">(" << settings.text() << ')';
  return out << text.str();
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_PRINT_HPP
