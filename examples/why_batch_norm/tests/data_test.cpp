// The images: drawn, and read from good and malformed files.

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
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
    path_ = std::filesystem::current_path() / ("why_batch_norm_data_test_" + std::to_string(++count));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, const std::string& content, bool compressed = false) const {
    if (compressed) {
      gzFile file = gzopen((path_ / (name + ".gz")).string().c_str(), "wb");
      gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
      gzclose(file);
    } else {
      std::ofstream(path_ / name, std::ios::binary) << content;
    }
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

void write_mnist(const TemporaryFolder& folder, char separator, bool compressed) {
  for (const std::string part : {"train", "t10k"}) {
    folder.write(part + "-images" + separator + "idx3-ubyte", idx_images(), compressed);
    folder.write(part + "-labels" + separator + "idx1-ubyte", idx_labels(), compressed);
  }
}

}  // namespace

TEST_CASE("MNIST's files are read under either spelling of their names, compressed or not", "[data]") {
  for (const char separator : {'-', '.'}) {
    for (const bool compressed : {false, true}) {
      CAPTURE(separator, compressed);
      const TemporaryFolder folder;
      write_mnist(folder, separator, compressed);
      const Dataset data = load_dataset(folder.path());
      CHECK(data.height == 1);
      CHECK(data.width == 3);
      CHECK(data.classes == 8);
      CHECK(data.test.labels == std::vector<int>{7, 0});
      REQUIRE(data.train.images.dimension(0) == 2);
      CHECK(data.train.images(0, 0) == 0.0F);
      CHECK(data.train.images(0, 1) == 1.0F);
      CHECK(data.train.images(0, 2) == 0.2F);
      CHECK(data.train.images(1, 0) == 0.4F);
    }
  }
}

TEST_CASE("a malformed MNIST file is an error that names it and what came", "[data]") {
  const TemporaryFolder folder;
  write_mnist(folder, '-', false);
  const auto error = [&](const std::string& name, const std::string& content) {
    folder.write(name, content);
    const std::string message = folder.error();
    write_mnist(folder, '-', false);
    return message;
  };
  const std::string images = "train-images-idx3-ubyte";
  const std::string labels = "t10k-labels-idx1-ubyte";
  CHECK(error(images, idx_images()) == "no error");
  CHECK(error(images, idx_labels()) == "DIR/" + images + ": expected magic number 2051 (images), got 2049");
  CHECK(error(images, "") == "DIR/" + images + ": expected a header of IDX numbers, got 0 bytes");
  CHECK(error(images, idx_images().substr(0, 13)) ==
        "DIR/" + images + ": expected a header of IDX numbers, got 13 bytes");
  CHECK(error(images, idx_images().substr(0, 20)) == "DIR/" + images + ": expected 6 bytes after the header, got 4");
  CHECK(error(images, idx_images() + "x") == "DIR/" + images + ": expected 6 bytes after the header, got 7");
  CHECK(error(images, big_endian(0x803) + big_endian(2) + big_endian(0) + big_endian(3)) ==
        "DIR/" + images + ": expected images of 1 x 1 to 1024 x 1024 pixels, got 2 of 0 x 3");
  CHECK(error(labels, idx_images()) == "DIR/" + labels + ": expected magic number 2049 (labels), got 2051");
  CHECK(error(labels, big_endian(0x801) + big_endian(1) + "\x01") ==
        "DIR/" + labels + ": expected 2 labels, one for each image in t10k-images-idx3-ubyte, got 1");

  std::filesystem::remove(folder.path() / labels);
  CHECK(folder.error() == "DIR: expected a file " + labels + " or " + labels + ".gz, found none");
}

TEST_CASE("a compressed file that was cut off or damaged is an error that names it", "[data]") {
  const TemporaryFolder folder;
  write_mnist(folder, '-', true);
  const std::filesystem::path path = folder.path() / "train-images-idx3-ubyte.gz";
  std::string whole;
  {
    std::ifstream stream(path, std::ios::binary);
    whole.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  folder.write(path.filename().string(), whole.substr(0, whole.size() - 9));
  CHECK_THAT(folder.error(),
             Catch::Matchers::StartsWith("DIR/train-images-idx3-ubyte.gz: cannot be read to its end: "));
  std::string damaged = whole;
  damaged[whole.size() - 6] ^= 0x55;  // in the checksum
  folder.write(path.filename().string(), damaged);
  CHECK_THAT(folder.error(),
             Catch::Matchers::StartsWith("DIR/train-images-idx3-ubyte.gz: cannot be read to its end: "));
}

TEST_CASE("a folder without images is an error", "[data]") {
  const TemporaryFolder folder;
  CHECK(folder.error() == "DIR: expected a file train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found none");
  CHECK_THROWS_AS(load_dataset(folder.path() / "absent"), BadInput);
}

TEST_CASE("the validation images are held out from the end of the training images", "[data]") {
  Dataset data = draw_dataset(100, 20, 1);
  const std::vector<int> labels = data.train.labels;
  const Dataset limited_data = limited(data, {1000, 10, 15});
  CHECK(limited_data.train.labels == std::vector<int>(labels.begin(), labels.begin() + 90));
  CHECK(limited_data.validation.labels == std::vector<int>(labels.begin() + 90, labels.end()));
  CHECK(limited_data.test.size() == 15);
  CHECK(limited(data, {30, 10, 15}).train.size() == 30);
  CHECK_THROWS_AS(limited(draw_dataset(5, 5, 1), {1000, 10, 15}), BadInput);  // a tenth of 5 leaves none to validate
}

TEST_CASE("images are averaged down by whole factors", "[data]") {
  Dataset data;
  data.height = 2;
  data.width = 4;
  data.train.images = Batch<float>(1, 8);
  data.train.images.setValues({{1, 2, 3, 4, 5, 6, 7, 8}});
  data.validation.images = data.test.images = data.train.images;
  const Dataset small = shrunk(data, 1);
  CHECK(small.height == 1);
  CHECK(small.width == 2);
  CHECK(small.train.images(0, 0) == 3.5F);
  CHECK(small.train.images(0, 1) == 5.5F);
  CHECK(shrunk(data, 0).width == 4);
  CHECK(shrunk(data, 2).width == 4);
}

TEST_CASE("drawn digits depend on the seed alone and hold equally many of each", "[data]") {
  const Examples examples = draw_examples(100, 5);
  const Examples again = draw_examples(100, 5);
  const Examples other = draw_examples(100, 6);
  CHECK(examples.labels == again.labels);
  CHECK(matrix(examples.images) == matrix(again.images));
  CHECK(matrix(examples.images) != matrix(other.images));
  for (int digit = 0; digit < drawn_classes; ++digit) {
    CHECK(std::count(examples.labels.begin(), examples.labels.end(), digit) == 10);
  }
  CHECK(matrix(examples.images).minCoeff() >= 0.0F);
  CHECK(matrix(examples.images).maxCoeff() <= 1.0F);
}
