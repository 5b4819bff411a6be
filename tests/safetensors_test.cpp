// The format safetensors: what PyTorch wrote, what we write, and what is damaged.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/safetensors.hpp>

#include <chrono>

#include "catch.hpp"
#include "snapshot.hpp"
#include "temporary_file.hpp"

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::DType;
using batchnorm::load_safetensors;
using batchnorm::NamedArray;
using batchnorm::StateDict;

namespace {

const std::string golden = BATCHNORM_STATES_DIR "/";

// A file with this header and so many bytes behind it.
std::string file_of(const std::string& header, std::size_t bytes, std::uint64_t header_size) {
  std::string result;
  for (int i = 0; i < 8; ++i) result += static_cast<char>(static_cast<unsigned char>(header_size >> (8 * i) & 0xff));
  return result + header + std::string(bytes, '\0');
}
std::string file_of(const std::string& header, std::size_t bytes) { return file_of(header, bytes, header.size()); }

std::string entry(const std::string& name, const std::string& shape, int begin, int end,
                  const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

// From a file and from memory, with the same message but for the name.
void check_fault(const std::string& content, const std::string& word) {
  const TemporaryFile file(content);
  const std::string message = message_of<std::runtime_error>([&] { load_safetensors(file.path()); });
  INFO(message << " should name " << word);
  CHECK(message.find(word) != std::string::npos);
  CHECK(message.find(file.path()) != std::string::npos);
  const auto* const bytes = reinterpret_cast<const std::byte*>(content.data());
  const std::string in_memory = message_of<std::runtime_error>([&] { load_safetensors(bytes, content.size()); });
  CHECK(in_memory.find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("a layer takes the state that PyTorch wrote, of every floating-point dtype") {
  for (const char* name : {"float16", "bfloat16", "float32", "float64"}) {
    INFO(name);
    const StateDict file = load_safetensors(golden + name + ".safetensors");
    CHECK(batchnorm::name_of(file.at("net.bn1.weight").dtype) == std::string(name));
    BatchNorm<double, 4> bn(3);
    bn.load_state_dict(file, "net.bn1.");
    for (const auto& [vector, quantity] : {std::pair{&bn.weight(), "exact.weight"},
                                           {&bn.bias(), "exact.bias"},
                                           {&bn.running_mean(), "exact.running_mean"},
                                           {&bn.running_var(), "exact.running_var"}}) {
      CHECK(batchnorm::as_vector(*vector) == file.get<Eigen::VectorXd>(quantity));
    }
    CHECK(bn.num_batches_tracked() == 7);
    BatchNorm<float, 2> narrow(3);
    narrow.load_state_dict(load_safetensors(golden + name + ".safetensors", "net.bn1."), "net.bn1.");
    CHECK(narrow.weight()(1) == static_cast<float>(bn.weight()(1)));
  }
  BatchNorm<float, 2> plain(BatchNormOptions(3).affine(false));
  plain.num_batches_tracked(5).load_state_dict(load_safetensors(golden + "no_affine.safetensors"));
  CHECK(plain.num_batches_tracked() == 0);
}

TEST_CASE("a saved state dict is loaded with every dtype, shape and bit") {
  StateDict dict = BatchNorm<float, 2>(3).state_dict("bn.");
  dict.add("b", true).add("i8", std::int8_t{-1}).add("u8", std::uint8_t{255}).add("i16", std::int16_t{-2});
  dict.add("u16", std::uint16_t{1})
      .add("i32", std::int32_t{-3})
      .add("u32", std::uint32_t{4})
      .add("u64", std::uint64_t{5});
  dict.add("half", Eigen::half(1.5f)).add("brain", Eigen::bfloat16(2.5f)).add("double", 0.1);
  dict.add("empty", Eigen::MatrixXf(0, 4)).add("name \"\\\n\xc3\xa9", 1.0f).add("", 2.0f);
  NamedArray eight;
  eight.dtype = DType::float8_e4m3, eight.shape = {2}, eight.bytes.resize(2), eight.name = "e4m3";
  dict.add(eight);
  eight.dtype = DType::float8_e5m2, eight.name = "e5m2";
  dict.add(eight);
  const TemporaryFile file;
  batchnorm::save_safetensors(file.path(), dict);
  const StateDict loaded = load_safetensors(file.path());
  CHECK(loaded.size() == dict.size());
  for (const NamedArray& array : dict) {
    INFO(array.name);
    CHECK(loaded.at(array.name) == array);
  }
  CHECK_THROWS_AS(loaded.get<float>("e4m3"), std::invalid_argument);

  // Under its own name, since the arrays are copies.
  batchnorm::save_safetensors(file.path(), loaded);
  CHECK(load_safetensors(file.path()) == loaded);
  const std::string content = file.read();
  CHECK(load_safetensors(reinterpret_cast<const std::byte*>(content.data()), content.size()) == loaded);
  const StateDict part = load_safetensors(file.path(), "bn.");
  CHECK(part.size() == 5);
  CHECK(batchnorm::detail::MappedFile(file.path()).is_mapped() == (BATCHNORM_HAS_MMAP == 1));

  batchnorm::save_safetensors(file.path(), StateDict());
  CHECK(load_safetensors(file.path()).empty());
}

TEST_CASE("each array of a saved file is aligned for its elements") {
  StateDict dict;
  dict.add("a", true).add("b", 1.0).add("c", Eigen::half(1.0f)).add("d", 1.0f);
  const TemporaryFile file;
  batchnorm::save_safetensors(file.path(), dict);
  const std::string content = file.read();
  const auto read = batchnorm::detail::read_safetensors_header("", reinterpret_cast<const std::byte*>(content.data()),
                                                               content.size());
  for (const auto& array : read.entries) {
    const auto at = static_cast<std::size_t>(read.data - reinterpret_cast<const std::byte*>(content.data()));
    CHECK((at + array.begin) % batchnorm::size_of(array.dtype) == 0);
  }
}

TEST_CASE("a name that the format cannot hold is refused before the file is touched") {
  const TemporaryFile file("before");
  for (const std::string& name : {std::string("__metadata__"), std::string("\xff")}) {
    CHECK_THROWS_AS(batchnorm::save_safetensors(file.path(), StateDict().add(name, 1.0f)), std::invalid_argument);
  }
  CHECK(file.read() == "before");
  CHECK_THROWS_AS(batchnorm::save_safetensors("there/is/no/such", StateDict()), std::runtime_error);
  CHECK_THROWS_AS(load_safetensors("there/is/no/such"), std::runtime_error);
  CHECK_THROWS_AS(load_safetensors("."), std::runtime_error);
}

TEST_CASE("a damaged safetensors file is an error that names the fault") {
  const std::string one = "{" + entry("a", "[2]", 0, 8) + "}";
  const TemporaryFile good(file_of(one + "   ", 8));
  REQUIRE(load_safetensors(good.path()).size() == 1);
  good.write(file_of("{\"__metadata__\":{\"format\":\"pt\"}," + one.substr(1), 8));
  REQUIRE(load_safetensors(good.path()).size() == 1);

  check_fault("", "0 bytes");
  check_fault("1234567", "7 bytes");
  check_fault(file_of(one, 8, std::uint64_t{1} << 60), "1152921504606846976");
  check_fault(file_of(one, 8, ~std::uint64_t{0}), "18446744073709551615");
  check_fault(file_of("", 0), "does not begin with '{'");
  check_fault(file_of(" " + one, 8), "does not begin with '{'");
  check_fault(file_of("[]", 0), "does not begin with '{'");
  check_fault(file_of("{", 0), "no JSON");
  check_fault(file_of(one + "x", 8), "no JSON");
  check_fault(file_of("{\"\xff\":1}", 0), "no JSON");
  check_fault(file_of(one, 7), "bytes 0 to 8 of 7");
  check_fault(file_of(one, 9), "1 bytes behind its last array");
  check_fault(file_of("{}", 3), "3 bytes behind its last array");
  check_fault(file_of("{" + entry("a", "[2]", 8, 0) + "}", 8), "bytes 8 to 0");
  check_fault(file_of("{" + entry("a", "[2]", 4, 12) + "}", 12), "behind a hole that begins at 0");
  check_fault(file_of("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[2]", 4, 12) + "}", 12),
              "within the array before");
  check_fault(file_of("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[2]", 0, 8) + "}", 8),
              "within the array before");
  check_fault(file_of("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[1]", 9, 13) + "}", 13),
              "hole that begins at 8");
  check_fault(file_of("{" + entry("a", "[3]", 0, 8) + "}", 8), "float32 in shape [3] take 12");
  check_fault(file_of("{" + entry("a", "[2]", 0, 8, "F16") + "}", 8), "float16 in shape [2] take 4");
  check_fault(file_of("{" + entry("a", "[4611686018427387904, 4]", 0, 0) + "}", 0), "no memory can hold");
  check_fault(file_of("{" + entry("a", "[4611686018427387904, 4, 0]", 0, 0) + "}", 0), "no memory can hold");
  check_fault(file_of("{" + entry("a", "[18446744073709551615]", 0, 0) + "}", 0), "a number");
  check_fault(file_of("{" + entry("a", "[18446744073709551616]", 0, 0) + "}", 0), "too large");
  check_fault(file_of("{" + entry("a", "[-1]", 0, 0) + "}", 0), "negative");
  check_fault(file_of("{" + entry("a", "[1.5]", 0, 0) + "}", 0), "no integer");
  check_fault(file_of("{" + entry("a", "[true]", 0, 0) + "}", 0), "a boolean");
  check_fault(file_of("{" + entry("a", "[null]", 0, 0) + "}", 0), "null");
  check_fault(file_of("{" + entry("a", "[\"1\"]", 0, 0) + "}", 0), "a text");
  check_fault(file_of("{" + entry("a", "[[1]]", 0, 0) + "}", 0), "an array in the header where none is expected");
  check_fault(file_of("{" + entry("a", "{}", 0, 0) + "}", 0), "an object in the header where none is expected");
  check_fault(file_of("{" + entry("a", "[1]", 0, 4, "F7") + "}", 4), "\"F7\"");
  check_fault(file_of("{" + entry("a", "[1]", 0, 4) + "," + entry("a", "[1]", 4, 8) + "}", 8), "\"a\" twice");
  check_fault(file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "\"__metadata__\" twice");
  check_fault(file_of("{\"__metadata__\":{\"a\":{}}}", 0), "an object");
  check_fault(file_of("{\"__metadata__\":{\"a\":1}}", 0), "a number");
  check_fault(file_of("{\"__metadata__\":[]}", 0), "an array");
  check_fault(file_of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0), "\"dtype\" twice in \"a\"");
  check_fault(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4), "without all of");
  check_fault(file_of("{\"a\":{\"order\":1}}", 0), "\"order\"");
  check_fault(file_of("{\"a\":{\"dtype\":[]}}", 0), "an array");
  check_fault(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4), "without two offsets");
  check_fault(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,4]}}", 4), "a number");
  check_fault(file_of("{\"a\":1}", 0), "a number");
  check_fault(file_of("{\"a\":" + std::string(100000, '['), 0), "an array in the header");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"dtype\":";
  check_fault(file_of(deep, 0), "an object in the header");
}

TEST_CASE("a file of many arrays is read in a moment") {
  // So that no name is looked for among all others.
  StateDict dict;
  std::vector<NamedArray> arrays;
  for (int i = 0; i < 200000; ++i) arrays.push_back(NamedArray::of("layer" + std::to_string(i), true));
  const TemporaryFile file;
  batchnorm::save_safetensors(file.path(), StateDict(arrays));
  const auto begin = std::chrono::steady_clock::now();
  CHECK(load_safetensors(file.path()).size() == 200000);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}
