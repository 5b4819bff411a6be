# Runs the demo as a user would and looks at its exit status and at what it prints.
#   cmake -DPROGRAM=... -DWORK=an-empty-folder -P program_test.cmake

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}/empty" "${WORK}/malformed")
file(WRITE "${WORK}/malformed/train.csv" "1,2,3\n")
file(WRITE "${WORK}/malformed/test.csv" "1,2,3\n")

# Runs PROGRAM with the arguments after PATTERN; what it prints must match PATTERN and its exit status be STATUS.
function(expect status pattern)
  execute_process(
    COMMAND "${PROGRAM}" ${ARGN}
    WORKING_DIRECTORY "${WORK}"
    RESULT_VARIABLE got
    OUTPUT_VARIABLE output
    ERROR_VARIABLE errors
  )
  if(NOT got STREQUAL status OR NOT "${output}${errors}" MATCHES "${pattern}")
    message(SEND_ERROR "train_digits ${ARGN}\nexpected exit status ${status} and '${pattern}', got ${got} and:\n"
                       "${output}${errors}"
    )
  endif()
endfunction()

set(small --epochs 1 --train-images 200 --learning-rates 0.1 --weight-scales 1)

expect(0 "^usage: train_digits" --help)
expect(0 "\nbest test accuracy: [0-9]+[.][0-9][0-9] % with batch normalization, [0-9]+[.][0-9][0-9] % without\n$"
       ${small})
expect(0 "\nlearning curves: [^\n]*curves[.]svg\n" ${small} --output curves.svg)
file(READ "${WORK}/curves.svg" image)
if(NOT image MATCHES "^<svg .*</svg>\n$")
  message(SEND_ERROR "curves.svg is no SVG image")
endif()

expect(2 "unknown argument '--dta'" --dta here)
expect(2 "--epochs: expected an integer from 1 to 10000, got 'many'" --epochs many)
expect(2 "--data: expected a value after it, got nothing" --data)
expect(1 "absent: expected a folder with digits, found none" --data absent)
expect(1 "empty: expected MNIST's files .* found neither" --data empty)
expect(1 "train.csv:1: expected 65 comma-separated integers .*, got 3" --data malformed)
expect(1 "absent/curves.svg: cannot write" --output absent/curves.svg)
