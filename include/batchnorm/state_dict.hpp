// What a network has learned, as a value: named arrays, for files and for other frameworks.

#ifndef BATCHNORM_STATE_DICT_HPP
#define BATCHNORM_STATE_DICT_HPP

#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/named_array.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

[[noreturn]] inline void fail_for_name(const char* text, const std::string& name) {
  fail<std::invalid_argument>(text + in_quotes(name));
}

}  // namespace detail

/// What the arrays of a layer are called, after the prefix. The names are PyTorch's unless they are set; those of Keras
/// are ready. An empty name leaves the array out: it is not written, and not asked for.
///
///     bn.load_state_dict(dict, "bn1/", batchnorm::StateNames::keras());
struct StateNames {
  /// The scale (gamma).
  std::string weight = "weight";
  /// The shift (beta).
  std::string bias = "bias";
  /// The running mean.
  std::string running_mean = "running_mean";
  /// The running variance.
  std::string running_var = "running_var";
  /// How many batches these have seen.
  std::string num_batches_tracked = "num_batches_tracked";

  /// PyTorch's names, as of torch.nn.BatchNorm2d.
  static StateNames pytorch() { return {}; }
  /// Keras' names: gamma, beta, moving_mean, moving_variance, and no number of batches.
  static StateNames keras() { return {"gamma", "beta", "moving_mean", "moving_variance", ""}; }
};

/// Named arrays in the order in which they were added, each name once: PyTorch's state_dict as a value. A file is
/// written of one and read into one (batchnorm/safetensors.hpp), and the dicts of all layers of a network merge into
/// the network's.
///
///     batchnorm::StateDict dict = bn1.state_dict("bn1.");
///     dict.merge(bn2.state_dict("bn2.")).add("fc.weight", W);
///     const auto weight = dict.get<Eigen::MatrixXf>("fc.weight");
///
/// Finding a name takes time proportional to the number of arrays.
class StateDict {
 public:
  /// Goes over the arrays.
  using const_iterator = std::vector<NamedArray>::const_iterator;

  /// Without arrays.
  StateDict() = default;
  /// Of these arrays. Throws std::invalid_argument for a name that is there twice, and where bytes and shape do not
  /// agree.
  template <class Arrays = std::vector<NamedArray>,
            std::enable_if_t<std::is_same_v<Arrays, std::vector<NamedArray>>, int> = 0>
  explicit StateDict(Arrays arrays) : arrays_(std::move(arrays)) {
    std::vector<const std::string*> names;
    for (const NamedArray& array : arrays_) {
      array.check();
      names.push_back(&array.name);
    }
    std::sort(names.begin(), names.end(), [](const std::string* a, const std::string* b) { return *a < *b; });
    for (std::size_t i = 1; i < names.size(); ++i) {
      detail::require(*names[i - 1] != *names[i], "expected each name once in a state dict, got ",
                      detail::in_quotes(*names[i]), " twice");
    }
  }

  /// Adds an array. Throws std::invalid_argument for a name that is there, and where bytes and shape do not agree.
  StateDict& add(NamedArray array) {
    array.check();
    check_new(array.name);
    arrays_.push_back(std::move(array));
    return *this;
  }
  /// Adds a copy of a tensor, a matrix or a number, as NamedArray::of.
  template <class X>
  StateDict& add(std::string name, const X& values) {
    return add(NamedArray::of(std::move(name), values));
  }

  /// Adds all arrays of another dict. Throws std::invalid_argument where a name is in both, and then has changed
  /// nothing.
  StateDict& merge(StateDict other) {
    for (const NamedArray& array : other) check_new(array.name);
    arrays_.reserve(arrays_.size() + other.arrays_.size());
    for (NamedArray& array : other.arrays_) arrays_.push_back(std::move(array));
    return *this;
  }

  /// Gives an array another name. Throws std::invalid_argument unless the one is there and the other is not.
  StateDict& rename(const std::string& from, const std::string& to) {
    const std::size_t i = index_of(from);
    check_known(i, from);
    if (from != to) check_new(to);
    arrays_[i].name = to;
    return *this;
  }

  /// Takes an array out. Whether it was there.
  bool erase(const std::string& name) {
    const std::size_t i = index_of(name);
    if (i == arrays_.size()) return false;
    arrays_.erase(arrays_.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }

  /// The array of this name, or null.
  const NamedArray* find(const std::string& name) const {
    const std::size_t i = index_of(name);
    return i == arrays_.size() ? nullptr : &arrays_[i];
  }
  /// Whether there is an array of this name.
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  /// The array of this name. Throws std::invalid_argument where there is none.
  const NamedArray& at(const std::string& name) const {
    const std::size_t i = index_of(name);
    check_known(i, name);
    return arrays_[i];
  }
  /// The array of this name as a tensor, a matrix or a number, as NamedArray::as. Throws std::invalid_argument.
  template <class Object>
  Object get(const std::string& name) const {
    return at(name).template as<Object>();
  }

  /// How many arrays there are.
  std::size_t size() const { return arrays_.size(); }
  /// Whether there is none.
  bool empty() const { return arrays_.empty(); }
  /// The first array.
  const_iterator begin() const { return arrays_.begin(); }
  /// The end behind the last array.
  const_iterator end() const { return arrays_.end(); }

  /// Whether two dicts hold the same arrays in the same order, bit by bit.
  friend bool operator==(const StateDict& a, const StateDict& b) { return a.arrays_ == b.arrays_; }
  /// Whether they do not.
  friend bool operator!=(const StateDict& a, const StateDict& b) { return !(a == b); }

 private:
  std::size_t index_of(const std::string& name) const {
    std::size_t i = 0;
    while (i < arrays_.size() && arrays_[i].name != name) ++i;
    return i;
  }
  void check_new(const std::string& name) const {
    if (contains(name)) detail::fail_for_name("expected a name that is not in the state dict, got ", name);
  }
  void check_known(std::size_t i, const std::string& name) const {
    if (i == arrays_.size()) detail::fail_for_name("expected a name in the state dict, got ", name);
  }

  std::vector<NamedArray> arrays_{};
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_STATE_DICT_HPP
