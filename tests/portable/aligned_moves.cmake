# Disassembles PROGRAM, which was compiled for Windows by GCC, and fails where a move of a 32- or 64-byte register from or
# to memory asks for an aligned address: GCC keeps such registers on a stack that is aligned to 16 bytes (its bug 54412).
# Under Wine such a program may run nevertheless, and on Windows in one call of two.

execute_process(
  COMMAND "${OBJDUMP}" --disassemble --no-show-raw-insn "${PROGRAM}" OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY
)
foreach(register IN ITEMS ymm zmm)
  if(NOT text MATCHES "vmov[a-z0-9]+ +[^\n]*%${register}")
    message(FATAL_ERROR "nothing was looked at: no move of a ${register} register")
  endif()
endforeach()
string(REGEX MATCH "vmov(ap[sd]|dqa|dqa32|dqa64) +([^\n]*\\([^\n]*%[yz]mm|%[yz]mm[^\n]*\\()[^\n]*" found "${text}")
if(found)
  message(FATAL_ERROR "expected no move that asks for alignment, found: ${found}")
endif()
