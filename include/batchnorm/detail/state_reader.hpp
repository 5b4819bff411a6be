// What a layer asks of a state dict, and what it says where that is not there.

#ifndef BATCHNORM_DETAIL_STATE_READER_HPP
#define BATCHNORM_DETAIL_STATE_READER_HPP

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "batchnorm/state_dict.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Finds a layer's arrays under a prefix. All is asked for, then all is checked, and then values are taken. (A
/// template, so that it costs those alone who load.)
template <class Dict>
class StateReader {
 public:
  StateReader(const Dict& dict, const std::string& prefix) : dict_(dict), prefix_(prefix) {}

  /// The array of this name; null where it is not used, or not there, which check_all_found() tells of.
  const NamedArray* find(bool used, const std::string& name) {
    if (!used || name.empty()) return nullptr;
    const NamedArray* const array = dict_.find(prefix_ + name);
    if (array == nullptr) {
      missing_.push_back(prefix_ + name);
    } else {
      found_.push_back(array);
    }
    return array;
  }

  void check_all_found() const {
    std::vector<std::string> unexpected;
    bool has_dot = false;
    for (const NamedArray& array : dict_) {
      if (array.name.compare(0, prefix_.size(), prefix_) != 0) continue;
      has_dot = has_dot || array.name.compare(prefix_.size(), 1, ".") == 0;
      if (std::find(found_.begin(), found_.end(), &array) == found_.end()) unexpected.push_back(array.name);
    }
    if (missing_.empty() && unexpected.empty()) return;
    const bool no_dot = has_dot && !missing_.empty() && !prefix_.empty() && prefix_.back() != '.';
    fail<std::invalid_argument>("expected the state of this layer under the prefix ", in_quotes(prefix_),
                                listed(", missing: ", missing_), listed(", unexpected: ", unexpected),
                                no_dot ? "; a prefix ends with its dot: " + in_quotes(prefix_ + ".") : std::string());
  }

  /// A value for each channel, none where there is no array.
  template <class P>
  std::vector<P> values(const NamedArray* array, std::int64_t channels) const {
    std::vector<P> result;
    if (array == nullptr) return result;
    array->check();
    const std::vector<std::int64_t> expected{channels};
    require(array->shape == expected, "expected array ", in_quotes(array->name), " of shape ", shape_text(expected),
            ", got ", shape_text(array->shape));
    result.reserve(static_cast<std::size_t>(channels));
    read_elements<P>(array->name, array->dtype, array->bytes.data(), channels,
                     [&](const P& value) { result.push_back(value); });
    return result;
  }

  /// A single int64, which earlier versions of PyTorch wrote as an array of one.
  std::int64_t count(const NamedArray* array, std::int64_t otherwise) const {
    if (array == nullptr) return otherwise;
    array->check();
    const bool single = array->shape.empty() || array->shape == std::vector<std::int64_t>{1};
    require(single, "expected array ", in_quotes(array->name), " of shape [], got ", shape_text(array->shape));
    require(array->dtype == DType::int64, "expected array ", in_quotes(array->name), " of int64, got ", array->dtype);
    return element_at<std::int64_t>(array->bytes.data(), 0);
  }

 private:
  static std::string listed(const char* title, const std::vector<std::string>& names) {
    constexpr std::size_t most = 10;
    std::string result;
    for (std::size_t i = 0; i < names.size() && i < most; ++i) result += (i == 0 ? title : ", ") + in_quotes(names[i]);
    return names.size() > most ? result + " and " + std::to_string(names.size() - most) + " more" : result;
  }

  const Dict& dict_;
  const std::string& prefix_;
  std::vector<const NamedArray*> found_{};
  std::vector<std::string> missing_{};
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_STATE_READER_HPP
