// State dicts in the format safetensors. Needs nlohmann's JSON (CMake's target batchnorm::safetensors brings it); the
// umbrella batchnorm.hpp does not include this header.

#ifndef BATCHNORM_SAFETENSORS_HPP
#define BATCHNORM_SAFETENSORS_HPP

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "batchnorm/detail/files/mapped_file.hpp"
#include "batchnorm/detail/files/safetensors_header.hpp"
#include "batchnorm/state_dict.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

inline StateDict read_safetensors(const std::string& name, const std::byte* data, std::size_t size,
                                  const std::string& prefix) {
  Safetensors file = read_safetensors_header(name, data, size);
  std::vector<NamedArray> arrays;
  for (SafetensorsEntry& entry : file.entries) {
    if (entry.name.compare(0, prefix.size(), prefix) != 0) continue;
    NamedArray array;
    array.name = std::move(entry.name);
    array.dtype = entry.dtype;
    array.shape = std::move(entry.shape);
    array.bytes.assign(file.data + entry.begin, file.data + entry.end);
    if (!is_little_endian()) swap_bytes(array.dtype, array.bytes.data(), array.bytes.size());
    arrays.push_back(std::move(array));
  }
  return StateDict(std::move(arrays));
}

}  // namespace detail

/// Reads a file of the format safetensors, or of it those arrays whose names begin with the prefix, which they keep.
/// The file is mapped into memory where the system can do that (POSIX), so that of a large file only the header and
/// these arrays are read; elsewhere all of it is. The arrays are copies: the file may be overwritten.
///
/// Throws std::runtime_error, which names the fault, for a file that cannot be read or is damaged. All of it is checked
/// against the header before any memory is taken for an array: names that are there twice, arrays that overlap, lie
/// outside of the file or leave holes, sizes that do not fit their shapes, bytes behind the end.
///
///     bn.load_state_dict(batchnorm::load_safetensors("net.safetensors", "net.bn1."), "net.bn1.");
inline StateDict load_safetensors(const std::string& path, const std::string& prefix = std::string()) {
  const detail::MappedFile file(path);
  return detail::read_safetensors(path, file.data(), file.size(), prefix);
}

/// The same of a file that lies in memory, as part of the program for example.
inline StateDict load_safetensors(const std::byte* data, std::size_t size, const std::string& prefix = std::string()) {
  return detail::read_safetensors("memory", data, size, prefix);
}

/// Writes a state dict to a file that safetensors.torch.load_file and its like read. Throws std::runtime_error where it
/// cannot be written, and std::invalid_argument, before the file is opened, for a name that is not UTF-8 or is
/// "__metadata__".
///
///     batchnorm::save_safetensors("net.safetensors", bn1.state_dict("bn1.").merge(bn2.state_dict("bn2.")));
inline void save_safetensors(const std::string& path, const StateDict& dict) {
  // The widest elements first, so that each array is aligned for its own.
  std::vector<const NamedArray*> arrays;
  for (const NamedArray& array : dict) arrays.push_back(&array);
  std::stable_sort(arrays.begin(), arrays.end(),
                   [](const NamedArray* a, const NamedArray* b) { return size_of(a->dtype) > size_of(b->dtype); });
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::size_t offset = 0;
  for (const NamedArray* const array : arrays) {
    detail::require(array->name != "__metadata__", "expected no array by the name of \"__metadata__\", got one");
    const auto* const type =
        std::find_if(std::begin(detail::safetensors_types), std::end(detail::safetensors_types),
                     [&](const detail::SafetensorsType& known) { return known.dtype == array->dtype; });
    header += "," + detail::json_text(array->name) + R"(:{"dtype":")" + type->name + R"(","shape":[)";
    for (std::size_t i = 0; i < array->shape.size(); ++i)
      header += (i == 0 ? "" : ",") + std::to_string(array->shape[i]);
    header += R"(],"data_offsets":[)" + std::to_string(offset);
    offset += array->bytes.size();
    header += "," + std::to_string(offset) + "]}";
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string size;
  for (int i = 0; i < 8; ++i) size += static_cast<char>(static_cast<unsigned char>(header.size() >> (8 * i) & 0xff));

  detail::ByteWriter file(path);
  file.write(size).write(header);
  for (const NamedArray* const array : arrays) {
    if (detail::is_little_endian()) {
      file.write(array->bytes.data(), array->bytes.size());
    } else {
      std::vector<std::byte> swapped = array->bytes;
      detail::swap_bytes(array->dtype, swapped.data(), swapped.size());
      file.write(swapped.data(), swapped.size());
    }
  }
  file.close();
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_SAFETENSORS_HPP
