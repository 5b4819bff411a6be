// The header of the format safetensors: JSON that says where each array lies.

#ifndef BATCHNORM_DETAIL_FILES_SAFETENSORS_HEADER_HPP
#define BATCHNORM_DETAIL_FILES_SAFETENSORS_HEADER_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "batchnorm/detail/files/elements.hpp"
#include "batchnorm/detail/files/file.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The dtypes that the format and this library know, by the format's names.
struct SafetensorsType {
  const char* name;
  DType dtype;
};
inline constexpr SafetensorsType safetensors_types[] = {{"BOOL", DType::boolean},
                                                        {"I8", DType::int8},
                                                        {"U8", DType::uint8},
                                                        {"I16", DType::int16},
                                                        {"U16", DType::uint16},
                                                        {"I32", DType::int32},
                                                        {"U32", DType::uint32},
                                                        {"I64", DType::int64},
                                                        {"U64", DType::uint64},
                                                        {"F8_E4M3", DType::float8_e4m3},
                                                        {"F8_E5M2", DType::float8_e5m2},
                                                        {"F16", DType::float16},
                                                        {"BF16", DType::bfloat16},
                                                        {"F32", DType::float32},
                                                        {"F64", DType::float64}};

/// An array as the header tells of it: `begin` and `end` count bytes from the end of the header.
struct SafetensorsEntry {
  std::string name{};
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape{};
  std::uint64_t begin = 0, end = 0;
};

/// Reads the header as the parser of JSON goes over it, so that nothing nested is ever built: an object of arrays, each
/// an object of dtype, shape and data_offsets, and one of texts by the name of __metadata__, which is left.
class SafetensorsHeaderReader {
 public:
  std::vector<SafetensorsEntry> entries{};
  std::string fault{};

  // What the parser calls.
  bool null() { return wrong("null"); }
  bool boolean(bool) { return wrong("a boolean"); }
  bool number_integer(std::int64_t) { return wrong("a negative number"); }
  bool number_float(double, const std::string&) { return wrong("a number that is no integer, or too large"); }
  bool binary(nlohmann::json::binary_t&) { return wrong("binary data"); }

  bool number_unsigned(std::uint64_t value) {
    constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());
    if (place_ == Place::shape && value <= most) {
      entries.back().shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
      return true;
    }
    return wrong("a number");
  }

  bool string(std::string& text) {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::entry || member_ != "dtype") return wrong("a text");
    for (const SafetensorsType& type : safetensors_types) {
      if (text != type.name) continue;
      entries.back().dtype = type.dtype;
      return true;
    }
    return fails("has array " + in_quotes(name_) + " of a dtype that is not known, " + in_quotes(text));
  }

  bool start_object(std::size_t) {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top && name_ == "__metadata__") {
      place_ = Place::metadata;
      members_.clear();
    } else if (place_ == Place::top) {
      place_ = Place::entry;
      members_.clear();
      entries.emplace_back();
      entries.back().name = name_;
    } else {
      return wrong("an object");
    }
    return true;
  }

  bool key(std::string& text) {
    if (place_ == Place::top) {
      name_ = text;
      return names_.insert(text).second || fails("has the name " + in_quotes(text) + " twice in its header");
    }
    member_ = text;
    if (place_ == Place::entry && text != "dtype" && text != "shape" && text != "data_offsets") {
      return fails("has array " + in_quotes(name_) + " with a member that is not known, " + in_quotes(text));
    }
    return members_.insert(text).second ||
           fails("has " + in_quotes(text) + " twice in " + in_quotes(name_) + " of its header");
  }

  bool end_object() {
    if (place_ == Place::entry && members_.size() != 3) {
      return fails("has array " + in_quotes(name_) + " without all of dtype, shape and data_offsets");
    }
    place_ = place_ == Place::top ? Place::end : Place::top;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != Place::entry || member_ == "dtype") return wrong("an array");
    place_ = member_ == "shape" ? Place::shape : Place::offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() {
    if (place_ == Place::offsets && offsets_ != 2)
      return fails("has array " + in_quotes(name_) + " without two offsets");
    place_ = Place::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    return fails("has a header that is no JSON, at byte " + std::to_string(position) + " of it");
  }

 private:
  enum class Place { start, top, metadata, entry, shape, offsets, end };

  bool wrong(const char* what) {
    if (place_ == Place::start) return fails(std::string("has a header that is no object of arrays, but ") + what);
    return fails(std::string("has ") + what + " in the header where none is expected, in " + in_quotes(name_));
  }
  bool fails(std::string text) {
    if (fault.empty()) fault = std::move(text);
    return false;
  }

  Place place_ = Place::start;
  std::string name_{}, member_{};
  std::set<std::string> names_{}, members_{};
  int offsets_ = 0;
};

/// A file in memory, and what its header says of it when all of that is found to be true.
struct Safetensors {
  std::vector<SafetensorsEntry> entries;
  const std::byte* data;  // behind the header
};

inline void check_safetensors_layout(const ByteReader& file, const std::vector<SafetensorsEntry>& entries,
                                     std::uint64_t size) {
  std::vector<const SafetensorsEntry*> in_order;
  for (const SafetensorsEntry& entry : entries) {
    std::int64_t bytes = 0;
    if (!byte_count(entry.dtype, entry.shape, bytes)) {
      file.damaged("has array ", in_quotes(entry.name), " of shape ", shape_text(entry.shape),
                   ", which no memory can hold");
    }
    if (entry.begin > entry.end || entry.end > size) {
      file.damaged("has array ", in_quotes(entry.name), " at bytes ", entry.begin, " to ", entry.end, " of ", size);
    }
    if (entry.end - entry.begin != static_cast<std::uint64_t>(bytes)) {
      file.damaged("has ", entry.end - entry.begin, " bytes for array ", in_quotes(entry.name), ", and ", entry.dtype,
                   " in shape ", shape_text(entry.shape), " take ", bytes);
    }
    in_order.push_back(&entry);
  }
  std::sort(in_order.begin(), in_order.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  std::uint64_t at = 0;
  for (const SafetensorsEntry* const entry : in_order) {
    if (entry->begin != at) {
      file.damaged("has array ", in_quotes(entry->name), " at byte ", entry->begin,
                   entry->begin < at ? ", within the array before, which ends at " : ", behind a hole that begins at ",
                   at);
    }
    at = entry->end;
  }
  if (at != size) file.damaged("has ", size - at, " bytes behind its last array");
}

/// Reads the header of a file in memory and checks it against the rest.
inline Safetensors read_safetensors_header(const std::string& name, const std::byte* data, std::size_t size) {
  const ByteReader file(name, data, size);
  if (size < 8)
    file.damaged("is no file of the format safetensors: it has ", size, " bytes, and the size of a header takes 8");
  const auto header_size = little_endian<std::uint64_t>(data);
  if (header_size > size - 8) {
    file.damaged("says that its header has ", header_size, " bytes, and has ", size - 8,
                 ": it ends early, or is not of the format safetensors");
  }
  constexpr std::uint64_t most = 100'000'000;  // the format's own limit
  if (header_size > most) file.damaged("has a header of ", header_size, " bytes, and the format allows ", most);
  if (header_size == 0 || std::to_integer<char>(data[8]) != '{') {
    file.damaged("has a header that does not begin with '{'");
  }
  const auto* const text = reinterpret_cast<const char*>(data + 8);
  SafetensorsHeaderReader reader;
  if (!nlohmann::json::sax_parse(text, text + header_size, &reader)) file.damaged(reader.fault);
  check_safetensors_layout(file, reader.entries, size - 8 - header_size);
  return {std::move(reader.entries), data + 8 + header_size};
}

/// A name as JSON has it, in quotes. Throws std::invalid_argument where it is not UTF-8.
inline std::string json_text(const std::string& name) {
  using nlohmann::json;
  const json value(name);
  std::string result = value.dump(-1, ' ', false, json::error_handler_t::replace);
  require(result == value.dump(-1, ' ', false, json::error_handler_t::ignore),
          "expected the name of an array in UTF-8, got ", in_quotes(name));
  return result;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_SAFETENSORS_HEADER_HPP
