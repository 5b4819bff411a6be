// Ends well where the library would use the instruction set of that name, of all that the processor has.
//
//   supported_isa baseline | avx2 | avx512

#include <batchnorm/batchnorm.hpp>
#include <cstdio>
#include <string>

int main(int count, char** words) {
  using batchnorm::detail::Isa;
  const Isa isa = batchnorm::detail::supported_isa();
  const std::string name = isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
  std::printf("%s\n", name.c_str());
  return count == 2 && name == words[1] ? 0 : 1;
}
