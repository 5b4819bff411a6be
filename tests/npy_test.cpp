// NumPy's format: what NumPy wrote, what we write, and what is damaged.

#include <batchnorm/npy.hpp>

#include "catch.hpp"
#include "temporary_file.hpp"

using batchnorm::load_npy;
using batchnorm::save_npy;

namespace {

const std::string golden = BATCHNORM_STATES_DIR "/";

template <int Options>
Eigen::Tensor<double, 3, Options> counted(double scale, double offset) {
  Eigen::Tensor<double, 3, Options> result(2, 3, 4);
  for (int i = 0; i < 24; ++i) result(i / 12, i / 4 % 3, i % 4) = i * scale + offset;
  return result;
}

template <class A, class B>
bool same(const A& a, const B& b) {
  const Eigen::Tensor<bool, 0, A::Layout> equal = (a == b).all();
  return a.dimensions() == b.dimensions() && equal();
}

std::string fault(const std::string& content) {
  const TemporaryFile file(content);
  return message_of<std::runtime_error>([&] { load_npy<float, 1>(file.path()); });
}

// A file of version 1 with this dictionary and these elements.
std::string npy(const std::string& dictionary, const std::string& elements) {
  std::string size = {static_cast<char>(dictionary.size()), '\0'};
  return std::string("\x93NUMPY\x01\x00", 8) + size + dictionary + elements;
}

void check_fault(const std::string& content, const std::string& word) {
  const std::string message = fault(content);
  INFO(message << " should name " << word);
  CHECK(message.find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("every dtype, order of bytes and order of axes that NumPy writes is read into both orders of Eigen's") {
  const auto floats = counted<Eigen::ColMajor>(0.125, -1);
  const auto rows = counted<Eigen::RowMajor>(0.125, -1);
  const Eigen::Tensor<Eigen::half, 3> halves = floats.cast<Eigen::half>();
  for (const char* name : {"little_f2", "little_f4", "little_f8", "big_f2", "big_f4", "big_f8"}) {
    for (const char* order : {"_C.npy", "_F.npy"}) {
      INFO(name << order);
      CHECK(same(load_npy<double, 3>(golden + name + order), floats));
      CHECK(same(load_npy<double, 3, Eigen::RowMajor>(golden + name + order), rows));
      CHECK(same(load_npy<Eigen::half, 3>(golden + name + order), halves));
    }
  }
  const Eigen::Tensor<std::int64_t, 3> integers = counted<Eigen::ColMajor>(1, 0).cast<std::int64_t>();
  for (const char* name : {"little_i4", "big_i8", "u1", "little_u2"}) {
    for (const char* order : {"_C.npy", "_F.npy"}) {
      INFO(name << order);
      CHECK(same(load_npy<std::int64_t, 3>(golden + name + order), integers));
      CHECK(load_npy<std::uint8_t, 3>(golden + name + order)(1, 2, 3) == 23);
    }
  }
  const Eigen::Tensor<bool, 3> bools = floats > 0.0;
  CHECK(same(load_npy<bool, 3>(golden + "b1_C.npy"), bools));
  CHECK(same(load_npy<bool, 3>(golden + "b1_F.npy"), bools));
}

TEST_CASE("all versions of the header are read, and arrays without axes and without elements") {
  for (const char* version : {"1", "2", "3"}) {
    const auto x = load_npy<Eigen::VectorXf>(golden + "version_" + version + ".npy");
    CHECK(x == Eigen::Vector3f(0, 1, 2));
  }
  CHECK(load_npy<std::int64_t>(golden + "scalar.npy") == 7);
  CHECK(load_npy<std::int64_t, 0>(golden + "scalar.npy")() == 7);
  const auto empty = load_npy<Eigen::MatrixXf>(golden + "empty.npy");
  CHECK(empty.rows() == 0);
  CHECK(empty.cols() == 5);
}

TEST_CASE("a saved array is a file of NumPy's, byte by byte, where the order is the same") {
  const TemporaryFile file;
  save_npy(file.path(), counted<Eigen::RowMajor>(0.125, -1));
  CHECK(file.read() == TemporaryFile::read(golden + "little_f8_C.npy"));
  save_npy(file.path(), counted<Eigen::ColMajor>(0.125, -1));
  CHECK(file.read() == TemporaryFile::read(golden + "little_f8_F.npy"));
  save_npy(file.path(), counted<Eigen::RowMajor>(0.125, -1).cast<Eigen::half>());
  CHECK(file.read() == TemporaryFile::read(golden + "little_f2_C.npy"));
  save_npy(file.path(), Eigen::Vector3f(0, 1, 2));
  CHECK(file.read() == TemporaryFile::read(golden + "version_1.npy"));
}

TEST_CASE("what is saved is loaded: tensors, matrices, blocks, expressions, every scalar") {
  const TemporaryFile file;
  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(5, 7);
  save_npy(file.path(), W.block(1, 2, 3, 4));
  CHECK(load_npy<Eigen::MatrixXf>(file.path()) == W.block(1, 2, 3, 4));
  CHECK(load_npy<Eigen::Matrix<float, 3, 4, Eigen::RowMajor>>(file.path()) == W.block(1, 2, 3, 4));
  save_npy(file.path(), W.row(2));
  CHECK(load_npy<Eigen::RowVectorXf>(file.path()) == W.row(2));
  save_npy(file.path(), W * 2.0f);
  CHECK(load_npy<Eigen::ArrayXXd>(file.path()).matrix() == (W * 2.0f).cast<double>());
  const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> brain = W.cast<Eigen::bfloat16>();
  save_npy(file.path(), brain);
  CHECK(file.read().find("<f4") != std::string::npos);
  CHECK(load_npy<Eigen::Matrix<Eigen::bfloat16, 5, 7>>(file.path()) == brain);
  const Eigen::Tensor<Eigen::bfloat16, 2> tensor =
      Eigen::TensorMap<const Eigen::Tensor<float, 2>>(W.data(), 5, 7).cast<Eigen::bfloat16>();
  save_npy(file.path(), tensor);
  CHECK(load_npy<Eigen::bfloat16, 2>(file.path())(4, 6) == tensor(4, 6));
  Eigen::Tensor<std::int32_t, 0> number;
  number() = -3;
  save_npy(file.path(), number);
  CHECK(load_npy<int>(file.path()) == -3);
  Eigen::Tensor<float, 5, Eigen::RowMajor> five(1, 2, 3, 2, 1);
  five.setRandom();
  save_npy(file.path(), five);
  CHECK(same(load_npy<float, 5, Eigen::RowMajor>(file.path()), five));
}

TEST_CASE("an array of another rank, size or kind is std::invalid_argument, with both") {
  const auto message = [](const auto& call) { return message_of<std::invalid_argument>(call); };
  CHECK(message([] { load_npy<float, 2>(golden + "little_f4_C.npy"); }).find("2 axes, got shape [2, 3, 4]") !=
        std::string::npos);
  CHECK(message([] { load_npy<float, 3>(golden + "little_i4_C.npy"); }).find("int32") != std::string::npos);
  CHECK(message([] { load_npy<Eigen::Vector2f>(golden + "version_1.npy"); }).find("[3]") != std::string::npos);
}

TEST_CASE("a damaged file of NumPy's is an error that names the fault") {
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", eight(8, '\0');
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  const TemporaryFile file(npy(good, eight));
  REQUIRE(load_npy<float, 1>(file.path()).size() == 2);
  file.write(npy(replaced("'<f4'", "\"=f4\"") + " \n", eight));
  REQUIRE(load_npy<float, 1>(file.path()).size() == 2);
  file.write(npy(replaced("(2,), }", "(2L,)}"), eight));
  REQUIRE(load_npy<float, 1>(file.path()).size() == 2);

  check_fault("", "magic");
  check_fault("\x93NUMPX\x01\x01", "magic");
  check_fault(std::string("\x93NUMPY\x04\x00", 8), "version 4.0");
  check_fault(std::string("\x93NUMPY\x01\x01", 8), "version 1.1");
  check_fault(std::string("\x93NUMPY\x01\x00", 8), "ends within its header");
  check_fault(npy(good, eight).substr(0, 40), "ends within its header");
  check_fault(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12), "4294967295 bytes");
  check_fault(std::string("\x93NUMPY\x02\x00\x00\x00\x01\x00{", 13), "ends within its header");
  check_fault(npy(good, eight + "x"), "behind the 8 that");
  check_fault(npy(good, std::string(7, '\0')), "ends after 7 bytes");
  check_fault(npy(replaced("(2,)", "(4611686018427387904, 4)"), eight), "no memory can hold");
  check_fault(npy(replaced("(2,)", "(99999999999999999999,)"), eight), "no memory can hold");
  check_fault(npy(replaced("(2,)", "(288230376151711744,)"), eight),
              "ends after 8 bytes");  // 2^60 bytes: not allocated
  check_fault(npy(replaced("(2,)", "(-2,)"), eight), "no tuple of numbers");
  check_fault(npy(replaced("(2,)", "2"), eight), "'(' is expected");
  check_fault(npy(replaced("(2,)", "(2 3)"), eight), "')' is expected");
  check_fault(npy(replaced("False", "Maybe"), eight), "neither True nor False");
  check_fault(npy(replaced("<f4", "<c8"), eight), "\"<c8\"");
  check_fault(npy(replaced("<f4", "|O"), eight), "\"|O\"");
  check_fault(npy(replaced("<f4", "f4"), eight), "\"f4\"");
  check_fault(npy(replaced("<f4", ""), eight), "not known: \"\"");
  check_fault(npy(replaced("'<f4'", "[('a', '<f4')]"), eight), "records");
  check_fault(npy(replaced("'descr': '<f4'", "'fortran_order': True"), eight), "twice: \"fortran_order\"");
  check_fault(npy(replaced("descr", "dtype"), eight), "not known, or twice: \"dtype\"");
  check_fault(npy(replaced("'descr': '<f4', ", ""), eight), "lacks one of");
  check_fault(npy(replaced("}", ""), eight), "in quotes");
  check_fault(npy(replaced("'descr", "descr"), eight), "in quotes");
  check_fault(npy(good + "x", eight), "behind the dictionary");
  check_fault(npy("", eight), "'{' is expected");
  check_fault(npy(std::string(100, '('), eight), "'{' is expected");
  CHECK(message_of<std::runtime_error>([] { load_npy<float, 1>("there/is/no/such.npy"); }).find("such.npy") !=
        std::string::npos);
  CHECK(message_of<std::runtime_error>([] { load_npy<float, 1>("."); }).find("\".\"") != std::string::npos);
  CHECK(message_of<std::runtime_error>([] {
          save_npy("there/is/no/such.npy", Eigen::Vector2f::Zero());
        }).find("written") != std::string::npos);
}
