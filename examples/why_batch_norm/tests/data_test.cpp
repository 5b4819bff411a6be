// The digits: drawn, and read from good and malformed files.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../draw_digits.hpp"
#include "../load_dataset.hpp"

using namespace why_batch_norm;

namespace {

// A folder of its own for each test, gone afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int count = 0;
    path_ = std::filesystem::current_path() / ("train_digits_data_test_" + std::to_string(++count));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
  }

  // The message of the error that loading this folder gives, without the folder's own path.
  std::string error() const {
    try {
      load_dataset(path_);
    } catch (const BadInput& error) {
      std::string message = error.what();
      for (std::size_t at; (at = message.find(path_.string())) != std::string::npos;) {
        message.replace(at, path_.string().size(), "DIR");
      }
      return message;
    }
    return "no error";
  }

 private:
  std::filesystem::path path_;
};

// One line of an optdigits file: 64 pixels of this value, and the digit.
std::string csv_line(const std::string& pixel, const std::string& digit) {
  std::string line;
  for (int i = 0; i < 64; ++i) line += pixel + ",";
  return line + digit + "\n";
}

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

// Two images of 1 x 3 pixels.
std::string idx_images() {
  return big_endian(0x803) + big_endian(2) + big_endian(1) + big_endian(3) + std::string("\0\xff\x33\x66\0\0", 6);
}

std::string idx_labels() { return big_endian(0x801) + big_endian(2) + std::string("\x07\x00", 2); }

void write_mnist(const TemporaryFolder& folder, char separator) {
  for (const std::string part : {"train", "t10k"}) {
    folder.write(part + "-images" + separator + "idx3-ubyte", idx_images());
    folder.write(part + "-labels" + separator + "idx1-ubyte", idx_labels());
  }
}

}  // namespace

TEST_CASE("the optdigits files are read in order, ink from 0 to 1", "[data]") {
  const TemporaryFolder folder;
  folder.write("train.csv", csv_line("0", "3") + csv_line("16", "9") + csv_line("4", "0"));
  folder.write("test.csv", csv_line("8", "1").insert(csv_line("8", "1").size() - 1, "\r"));
  const Dataset data = load_dataset(folder.path());
  CHECK(data.height == 8);
  CHECK(data.width == 8);
  CHECK(data.train.labels == std::vector<int>{3, 9, 0});
  REQUIRE(data.train.images.dimension(0) == 3);
  REQUIRE(data.train.images.dimension(1) == 64);
  CHECK(data.train.images(0, 63) == 0.0F);
  CHECK(data.train.images(1, 0) == 1.0F);
  CHECK(data.train.images(2, 31) == 0.25F);
  CHECK(data.test.labels == std::vector<int>{1});
  CHECK(data.test.images(0, 5) == 0.5F);
}

TEST_CASE("a malformed optdigits file is an error that names the line", "[data]") {
  const TemporaryFolder folder;
  folder.write("test.csv", csv_line("8", "1"));
  const auto error = [&](const std::string& train) {
    folder.write("train.csv", train);
    return folder.error();
  };
  const std::string good = csv_line("1", "1");
  CHECK(error(good) == "no error");
  CHECK(error(good + "1,2,3\n") ==
        "DIR/train.csv:2: expected 65 comma-separated integers (64 pixels and the digit), got 3");
  CHECK(error(good + "\n" + good) ==
        "DIR/train.csv:2: expected 65 comma-separated integers (64 pixels and the digit), got an empty line");
  CHECK(error("1," + good) ==
        "DIR/train.csv:1: expected 65 comma-separated integers (64 pixels and the digit), got 66");
  CHECK(error(csv_line("17", "1")) == "DIR/train.csv:1, field 1: expected an integer from 0 to 16, got '17'");
  CHECK(error(csv_line("1.5", "1")) == "DIR/train.csv:1, field 1: expected an integer from 0 to 16, got '1.5'");
  CHECK(error(good + csv_line("1", "-1")) == "DIR/train.csv:2, field 65: expected an integer from 0 to 9, got '-1'");
  CHECK(error(csv_line("1", "")) == "DIR/train.csv:1, field 65: expected an integer from 0 to 9, got ''");
  CHECK(error("") == "DIR/train.csv: expected lines of digits, got an empty file");
}

TEST_CASE("MNIST's files are read under either spelling of their names", "[data]") {
  for (const char separator : {'-', '.'}) {
    CAPTURE(separator);
    const TemporaryFolder folder;
    write_mnist(folder, separator);
    const Dataset data = load_dataset(folder.path());
    CHECK(data.height == 1);
    CHECK(data.width == 3);
    CHECK(data.test.labels == std::vector<int>{7, 0});
    REQUIRE(data.train.images.dimension(0) == 2);
    CHECK(data.train.images(0, 0) == 0.0F);
    CHECK(data.train.images(0, 1) == 1.0F);
    CHECK(data.train.images(0, 2) == 0.2F);
    CHECK(data.train.images(1, 0) == 0.4F);
  }
}

TEST_CASE("a malformed MNIST file is an error that names it and what came", "[data]") {
  const TemporaryFolder folder;
  write_mnist(folder, '-');
  const auto error = [&](const std::string& name, const std::string& content) {
    folder.write(name, content);
    const std::string message = folder.error();
    write_mnist(folder, '-');
    return message;
  };
  const std::string images = "train-images-idx3-ubyte";
  const std::string labels = "t10k-labels-idx1-ubyte";
  CHECK(error(images, idx_images()) == "no error");
  CHECK(error(images, idx_labels()) == "DIR/" + images + ": expected magic number 2051 (images), got 2049");
  CHECK(error(images, std::string("\x1f\x8b\x08\0\0\0\0\0", 8)) ==
        "DIR/" + images +
            ": expected magic number 2051 (images), got 529205248; this file is compressed: gunzip it first");
  CHECK(error(images, "") == "DIR/" + images + ": expected a header of IDX numbers, got a file of 0 bytes");
  CHECK(error(images, idx_images().substr(0, 13)) ==
        "DIR/" + images + ": expected a header of IDX numbers, got a file of 13 bytes");
  CHECK(error(images, idx_images().substr(0, 20)) == "DIR/" + images + ": expected 6 bytes after the header, got 4");
  CHECK(error(images, idx_images() + "x") == "DIR/" + images + ": expected 6 bytes after the header, got 7");
  CHECK(error(images, big_endian(0x803) + big_endian(2) + big_endian(0) + big_endian(3)) ==
        "DIR/" + images + ": expected images of 1 x 1 to 1024 x 1024 pixels, got 2 of 0 x 3");
  CHECK(error(labels, idx_images()) == "DIR/" + labels + ": expected magic number 2049 (labels), got 2051");
  CHECK(error(labels, big_endian(0x801) + big_endian(2) + "\x01\x0a") ==
        "DIR/" + labels + ": expected labels 0 to 9, got 10 at number 2");
  CHECK(error(labels, big_endian(0x801) + big_endian(1) + "\x01") ==
        "DIR/" + labels + ": expected 2 labels, one for each image in t10k-images-idx3-ubyte, got 1");

  std::filesystem::remove(folder.path() / labels);
  CHECK(folder.error() == "DIR/" + labels + ": cannot open this file");
}

TEST_CASE("a folder without digits is an error", "[data]") {
  const TemporaryFolder folder;
  CHECK_THAT(folder.error(), Catch::Matchers::EndsWith("found neither"));
  folder.write("train-images-idx3-ubyte.gz", "");
  CHECK_THAT(folder.error(), Catch::Matchers::EndsWith("found compressed ones: gunzip them first"));
  CHECK_THROWS_AS(load_dataset(folder.path() / "absent"), BadInput);
}

TEST_CASE("drawn digits depend on the seed alone and hold equally many of each", "[data]") {
  const Examples examples = draw_examples(100, 5);
  const Examples again = draw_examples(100, 5);
  const Examples other = draw_examples(100, 6);
  CHECK(examples.labels == again.labels);
  CHECK(matrix(examples.images) == matrix(again.images));
  CHECK(matrix(examples.images) != matrix(other.images));
  for (int digit = 0; digit < digit_count; ++digit) {
    CHECK(std::count(examples.labels.begin(), examples.labels.end(), digit) == 10);
  }
  CHECK(matrix(examples.images).minCoeff() >= 0.0F);
  CHECK(matrix(examples.images).maxCoeff() <= 1.0F);
}
