// The flags of the demo.

#include "../command_line.hpp"

#include "../../../tests/catch.hpp"

using namespace train_digits;

TEST_CASE("no flags mean the drawn digits and the whole comparison", "[command_line]") {
  const CommandLine line = parse_command_line({});
  CHECK_FALSE(line.help);
  CHECK_FALSE(line.data.has_value());
  CHECK(line.learning_rates.size() * line.weight_scales.size() == 12);
  CHECK(line.threads >= 1);
}

TEST_CASE("a flag takes its value after a space or an equals sign", "[command_line]") {
  const CommandLine line =
      parse_command_line({"--data", "a=b", "--epochs=3", "--learning-rates", "0.5,1e-3", "--seed=7", "--threads", "2",
                          "--weight-scales=2", "--output", "x.svg", "--train-images", "50", "--help"});
  CHECK(line.data.value() == "a=b");
  CHECK(line.epochs == 3);
  CHECK(line.learning_rates == std::vector<double>{0.5, 1e-3});
  CHECK(line.weight_scales == std::vector<double>{2});
  CHECK(line.seed == 7);
  CHECK(line.threads == 2);
  CHECK(line.output == "x.svg");
  CHECK(line.train_images == 50);
  CHECK(line.help);
}

TEST_CASE("a bad flag is an error that names it and what came", "[command_line]") {
  const auto message = [](const std::vector<std::string>& arguments) -> std::string {
    try {
      parse_command_line(arguments);
    } catch (const BadUsage& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message({"--fast"}) == "unknown argument '--fast'; --help lists the ones there are");
  CHECK(message({"digits"}) == "unknown argument 'digits'; --help lists the ones there are");
  CHECK(message({"--epochs"}) == "--epochs: expected a value after it, got nothing");
  CHECK(message({"--epochs", "0"}) == "--epochs: expected an integer from 1 to 10000, got '0'");
  CHECK(message({"--epochs", "5x"}) == "--epochs: expected an integer from 1 to 10000, got '5x'");
  CHECK(message({"--threads=-1"}) == "--threads: expected an integer from 1 to 1024, got '-1'");
  for (const std::string list : {"", "0.1,", ",0.1", "0", "-1", "nan", "inf", "1e999", "0x1", "0.1;1"}) {
    CAPTURE(list);
    CHECK(message({"--learning-rates", list}) ==
          "--learning-rates: expected positive numbers with commas between them, got '" + list + "'");
  }
  CHECK(message({"--weight-scales", "1,2,3,4,5,6,7,8,9"}) == "--weight-scales: expected at most 8 numbers, got 9");
}
