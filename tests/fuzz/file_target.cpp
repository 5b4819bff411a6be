// Files of arrays, whatever their bytes: an exception that leaves the layer as it was, or what writing it gives back.
// For libFuzzer, and with REPLAY a program that plays files.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/npy.hpp>
#include <batchnorm/safetensors.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace {

void expect(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", claim);
  std::abort();
}

using Layer = batchnorm::BatchNorm<float, 2>;

// A layer takes what an array or a dict has, or refuses it and stays as it was.
void load(const batchnorm::StateDict& dict) {
  for (const char* prefix : {"", "net.bn1."}) {
    Layer layer(3);
    const batchnorm::StateDict before = layer.state_dict();
    try {
      layer.load_state_dict(dict, prefix);
      expect(layer.state_dict().size() == 5, "a loaded layer has its five arrays");
    } catch (const std::invalid_argument&) {
      expect(layer.state_dict() == before, "a layer that refuses a state dict is as before");
    }
  }
}

void play_safetensors(const std::byte* data, std::size_t size) {
  batchnorm::StateDict dict;
  try {
    dict = batchnorm::load_safetensors(data, size);
  } catch (const std::runtime_error&) {
    return;
  }
  load(dict);
  std::size_t bytes = 0;
  for (const batchnorm::NamedArray& array : dict) {
    array.check();
    bytes += array.bytes.size();
    try {
      static_cast<void>(array.as<Eigen::MatrixXf>());
    } catch (const std::invalid_argument&) {
    }
  }
  expect(bytes <= size, "what is read is no more than what is there");
}

void play_npy(const std::byte* data, std::size_t size) {
  batchnorm::detail::ByteReader reader("memory", data, size);
  batchnorm::NamedArray array;
  try {
    array = batchnorm::detail::read_npy(reader);
  } catch (const std::runtime_error&) {
    return;
  }
  array.check();
  expect(array.bytes.size() <= size, "what is read is no more than what is there");
  try {
    static_cast<void>(array.as<Eigen::Tensor<double, 3>>());
  } catch (const std::invalid_argument&) {
  }
  array.name = "weight";
  batchnorm::StateDict dict = Layer(3).state_dict();
  dict.erase("weight");
  load(dict.add(array));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  play_safetensors(bytes, size);
  play_npy(bytes, size);
  return 0;
}

#ifdef REPLAY
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  std::printf("%d files played\n", argc - 1);
}
#endif
