// A file that is there for a test, in the folder that the tests run in.

#ifndef BATCHNORM_TESTS_TEMPORARY_FILE_HPP
#define BATCHNORM_TESTS_TEMPORARY_FILE_HPP

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content = std::string()) : path_(new_name()) { write(content); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::remove(path_.c_str()); }

  const std::string& path() const { return path_; }
  void write(const std::string& content) const { std::ofstream(path_, std::ios::binary) << content; }
  std::string read() const { return read(path_); }

  static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  // ctest runs test cases at once, each in a process of its own.
  static std::string new_name() {
    static std::atomic<int> count{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    return "temporary_" + std::to_string(now) + "_" + std::to_string(count++);
  }

  std::string path_;
};

/// What a call that must throw an Error says.
template <class Error, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no such exception";
}

#endif  // BATCHNORM_TESTS_TEMPORARY_FILE_HPP
