# README shows PROGRAM, letter for letter, as a block of C++.
file(READ "${README}" readme)
file(READ "${PROGRAM}" program)
string(FIND "${readme}" "```cpp\n${program}```\n" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${README} does not show the text of ${PROGRAM}")
endif()
