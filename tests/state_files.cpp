// The C++ side of state_files_test.py: writes files for Python to read, and reads what Python wrote.
//
//   state_files write FOLDER           arrays as .npy; the states of layers of every scalar, with inputs and outputs
//   state_files check_arrays FOLDER    NumPy's arrays must be those that both sides know
//   state_files check_layers FOLDER    layers of PyTorch's states must give PyTorch's outputs

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/npy.hpp>
#include <batchnorm/safetensors.hpp>

#include <algorithm>
#include <cstdio>
#include <string>

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

int failures = 0;

void expect(bool holds, const std::string& claim) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", claim.c_str());
  ++failures;
}

// As Python makes them: numbers that every type holds.
template <class T, int Options>
Eigen::Tensor<T, 3, Options> counted() {
  Eigen::Tensor<T, 3, Options> result(2, 3, 4);
  for (int i = 0; i < 24; ++i) result(i / 12, i / 4 % 3, i % 4) = static_cast<T>(static_cast<float>(i));
  return result;
}

template <class T>
void write_arrays(const std::string& folder, const char* name) {
  batchnorm::save_npy(folder + "/ours_" + name + "_rows.npy", counted<T, Eigen::RowMajor>());
  batchnorm::save_npy(folder + "/ours_" + name + "_columns.npy", counted<T, Eigen::ColMajor>());
}

template <class T>
void check_arrays(const std::string& folder, const char* name) {
  for (const char* order : {"C", "F"}) {
    const auto x = batchnorm::load_npy<T, 3>(folder + "/numpy_" + name + "_" + order + ".npy");
    const auto expected = counted<T, Eigen::ColMajor>();
    expect(std::equal(x.data(), x.data() + x.size(), expected.data()), std::string("NumPy's ") + name + " in " + order);
  }
}

template <class T>
void write_layer(const std::string& folder, const char* name) {
  BatchNorm<T, 2> bn(4);
  for (int batch = 0; batch < 5; ++batch) {
    const Matrix<T> x = (Eigen::MatrixXf::Random(32, 4).array() * 3 + 1).matrix().cast<T>();
    bn.forward(x);
    for (auto& parameter : bn.parameters()) parameter.value.setRandom();
  }
  const Matrix<T> x = Eigen::MatrixXf::Random(8, 4).cast<T>();
  batchnorm::StateDict dict = bn.state_dict("bn.");
  dict.add("x", x).add("y", bn.infer(x));
  batchnorm::save_safetensors(folder + "/ours_" + name + ".safetensors", dict);
}

// Python's outputs are of float64 states and inputs.
template <class T>
void check_layer(const std::string& folder, const char* name, double tolerance) {
  const auto dict = batchnorm::load_safetensors(folder + "/torch_" + name + ".safetensors");
  BatchNorm<T, 2> bn(4);
  bn.load_state_dict(dict, "bn.");
  const auto x = dict.get<Matrix<T>>("x");
  const Eigen::MatrixXd y = bn.infer(x).template cast<float>().template cast<double>();
  const auto expected = dict.get<Eigen::MatrixXd>("y");
  const double error = (y - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
  expect(error < tolerance, std::string("outputs of PyTorch's ") + name + ", off by " + std::to_string(error));
  expect(bn.num_batches_tracked() == 9, "PyTorch's number of batches");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string folder = argv[2];
  if (argv[1] == std::string("write")) {
    write_arrays<float>(folder, "float32");
    write_arrays<double>(folder, "float64");
    write_arrays<Eigen::half>(folder, "float16");
    write_arrays<std::int64_t>(folder, "int64");
    write_arrays<std::uint8_t>(folder, "uint8");
    write_layer<float>(folder, "float32");
    write_layer<double>(folder, "float64");
    write_layer<Eigen::half>(folder, "float16");
    write_layer<Eigen::bfloat16>(folder, "bfloat16");
  } else if (argv[1] == std::string("check_arrays")) {
    check_arrays<float>(folder, "float32");
    check_arrays<double>(folder, "float64");
    check_arrays<Eigen::half>(folder, "float16");
    check_arrays<std::int64_t>(folder, "int64");
    check_arrays<std::uint8_t>(folder, "uint8");
  } else if (argv[1] == std::string("check_layers")) {
    check_layer<float>(folder, "float32", 2e-7);
    check_layer<double>(folder, "float64", 1e-7);  // as compared, in float
    check_layer<Eigen::half>(folder, "float16", 1e-3);
    check_layer<Eigen::bfloat16>(folder, "bfloat16", 8e-3);
  } else {
    return 2;
  }
  return failures == 0 ? 0 : 1;
}
