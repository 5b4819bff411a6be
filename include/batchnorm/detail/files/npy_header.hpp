// The header of NumPy's format .npy, as numpy.lib.format documents it: versions 1.0, 2.0 and 3.0.

#ifndef BATCHNORM_DETAIL_FILES_NPY_HEADER_HPP
#define BATCHNORM_DETAIL_FILES_NPY_HEADER_HPP

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "batchnorm/detail/files/elements.hpp"
#include "batchnorm/detail/files/file.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

struct NpyHeader {
  DType dtype = DType::float32;
  bool little_endian = true;
  bool fortran_order = false;
  std::vector<std::int64_t> shape{};
};

/// NumPy's name for a dtype in this machine's order of bytes, as "<f4". NumPy has no bfloat16.
inline std::string npy_descr(DType dtype) {
  const char order = size_of(dtype) == 1 ? '|' : is_little_endian() ? '<' : '>';
  const char* kind = "f";
  switch (dtype) {
    case DType::boolean:
      kind = "b";
      break;
    case DType::int8:
    case DType::int16:
    case DType::int32:
    case DType::int64:
      kind = "i";
      break;
    case DType::uint8:
    case DType::uint16:
    case DType::uint32:
    case DType::uint64:
      kind = "u";
      break;
    case DType::float8_e4m3:
    case DType::float8_e5m2:
    case DType::bfloat16:
    case DType::float16:
    case DType::float32:
    case DType::float64:
      break;
  }
  return order + (kind + std::to_string(size_of(dtype)));
}

/// Reads the text of a header: a dictionary of Python with the keys descr, fortran_order and shape, each once.
class NpyHeaderParser {
 public:
  NpyHeaderParser(const ByteReader& file, const std::string& text) : file_(file), text_(text) {}

  NpyHeader parse() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = quoted_text();
      expect(':');
      if (key == "descr" && !has_descr) {
        has_descr = true;
        parse_descr(header);
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        header.fortran_order = parse_bool();
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        parse_shape(header);
      } else {
        file_.damaged("has a key in its header that is not known, or twice: ", in_quotes(key));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) file_.damaged("has something behind the dictionary in its header");
    if (!has_descr || !has_order || !has_shape) {
      file_.damaged("lacks one of descr, fortran_order and shape in its header");
    }
    return header;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }
  bool take(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) file_.damaged("has a header that is no dictionary: '", c, "' is expected at byte ", at_, " of it");
  }

  std::string quoted_text() {
    skip_spaces();
    const char quote = peek();
    const std::size_t end = quote == '\'' || quote == '"' ? text_.find(quote, at_ + 1) : std::string::npos;
    if (end == std::string::npos) file_.damaged("has a header without a text in quotes at byte ", at_, " of it");
    const std::string result = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return result;
  }

  bool parse_bool() {
    skip_spaces();
    for (const bool value : {false, true}) {
      const std::string word = value ? "True" : "False";
      if (text_.compare(at_, word.size(), word) == 0) {
        at_ += word.size();
        return value;
      }
    }
    file_.damaged("has a fortran_order in its header that is neither True nor False");
  }

  void parse_descr(NpyHeader& header) {
    skip_spaces();
    if (peek() == '[') file_.damaged("holds records of several fields, and not one array of numbers");
    const std::string descr = quoted_text();
    const char order = descr.empty() ? '\0' : descr[0];
    const std::string kind = descr.substr(descr.empty() ? 0 : 1);
    static constexpr DType types[] = {DType::boolean, DType::int8,    DType::uint8,   DType::int16,
                                      DType::uint16,  DType::int32,   DType::uint32,  DType::int64,
                                      DType::uint64,  DType::float16, DType::float32, DType::float64};
    for (const DType type : types) {
      if (npy_descr(type).substr(1) != kind) continue;
      const bool one_byte = size_of(type) == 1;
      if (order == '<' || order == '>' || order == '=' || (order == '|' && one_byte)) {
        header.dtype = type;
        header.little_endian = order == '=' ? is_little_endian() : order != '>';
        return;
      }
    }
    file_.damaged("has elements of a type that is not known: ", in_quotes(descr));
  }

  void parse_shape(NpyHeader& header) {
    expect('(');
    while (!take(')')) {
      skip_spaces();
      if (peek() < '0' || peek() > '9') file_.damaged("has a shape in its header that is no tuple of numbers");
      std::int64_t extent = 0;
      for (; peek() >= '0' && peek() <= '9'; ++at_) {
        constexpr std::int64_t most = ((std::numeric_limits<std::int64_t>::max)() - 9) / 10;
        if (extent > most) file_.damaged("has a shape in its header that no memory can hold");
        extent = 10 * extent + (peek() - '0');
      }
      if (peek() == 'L') ++at_;  // of Python 2
      header.shape.push_back(extent);
      const bool comma = take(',');
      if (!comma) {
        expect(')');
        break;
      }
    }
  }

  const ByteReader& file_;
  const std::string& text_;
  std::size_t at_ = 0;
};

/// Reads all in front of the elements.
inline NpyHeader read_npy_header(ByteReader& file) {
  std::byte start[12];
  const auto read = [&](std::byte* to, std::size_t size) {
    if (file.read(to, size) != size) file.damaged("ends within its header");
  };
  static constexpr unsigned char magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  if (file.read(start, 8) != 8 || std::memcmp(start, magic, sizeof(magic)) != 0) {
    file.damaged("is no file of NumPy's format .npy: it does not begin with its magic bytes");
  }
  const int version = std::to_integer<int>(start[6]), minor = std::to_integer<int>(start[7]);
  if (version < 1 || version > 3 || minor != 0) {
    file.damaged("is of version ", version, ".", minor, " of NumPy's format, and 1.0, 2.0 and 3.0 are known");
  }
  std::uint32_t size = 0;
  if (version == 1) {
    read(start + 8, 2);
    size = little_endian<std::uint16_t>(start + 8);
  } else {
    read(start + 8, 4);
    size = little_endian<std::uint32_t>(start + 8);
  }
  constexpr std::uint32_t most = 1u << 20;
  if (size > most) file.damaged("says that its header has ", size, " bytes, and a shape takes no more than ", most);
  const std::vector<std::byte> bytes = file.read_at_most(size);
  if (bytes.size() != size) file.damaged("ends within its header");
  std::string text(bytes.size(), '\0');
  if (!bytes.empty()) std::memcpy(&text[0], bytes.data(), bytes.size());
  return NpyHeaderParser(file, text).parse();
}

/// The header of a file that is about to be written, in version 1.0, or 2.0 if it is long.
inline std::string npy_header(DType dtype, const std::vector<std::int64_t>& shape, bool fortran_order) {
  std::string text = "{'descr': '" + npy_descr(dtype) + "', 'fortran_order': " + (fortran_order ? "True" : "False");
  text += ", 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  text += shape.size() == 1 ? ",), }" : "), }";
  // The elements begin at a multiple of 64 bytes, behind spaces and an end of line.
  const auto fill = [&](std::size_t before) { text.append((64 - (before + text.size() + 1) % 64) % 64, ' ') += '\n'; };
  std::string start("\x93NUMPY", 6);
  if (text.size() < 65000) {
    fill(10);
    start += {'\x01', '\x00'};
  } else {
    fill(12);
    start += {'\x02', '\x00'};
  }
  const bool is_short = start[6] == '\x01';
  for (std::size_t i = 0; i < (is_short ? 2u : 4u); ++i) {
    start += static_cast<char>(static_cast<unsigned char>(text.size() >> (8 * i) & 0xff));
  }
  return start + text;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_NPY_HEADER_HPP
