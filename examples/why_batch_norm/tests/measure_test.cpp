// What is measured of a network.

#include "../measure.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../draw_digits.hpp"

using namespace why_batch_norm;

namespace {

Network<float> small_network(const Dataset& data, bool allow_single_value = false) {
  NetworkShape shape;
  shape.inputs = data.height * data.width;
  shape.hidden = {8, 6};
  shape.outputs = data.classes;
  shape.allow_single_value = allow_single_value;
  Random random(1);
  return {shape, random};
}

}  // namespace

TEST_CASE("an accuracy is the share of the largest logits that are at the label", "[measure]") {
  Batch<float> logits(3, 2);
  logits.setValues({{1, 2}, {4, 3}, {0, 5}});
  CHECK(predictions(logits) == std::vector<int>{1, 0, 1});
  CHECK(count_equal({1, 0, 1}, {1, 1, 1}) == 2);
}

TEST_CASE("percentiles are those of the sorted inputs of each unit", "[measure]") {
  const Dataset data = draw_dataset(201, 5, 1);
  Network<float> network = small_network(data);
  const nlohmann::json found = input_percentiles(network, data.train.images, Random(2));
  Random random(2);
  network.forward(data.train.images, random);
  const Batch<float>& input = network.hidden().back().activation_input();
  REQUIRE(found.size() == 3);
  for (Index unit = 0; unit < 6; ++unit) {
    for (const std::size_t list : {0U, 1U, 2U}) {
      const double value = found[list][static_cast<std::size_t>(unit)];
      int below = 0;
      for (Index i = 0; i < 201; ++i) below += static_cast<double>(input(i, unit)) < value - 1e-4 ? 1 : 0;
      CHECK(std::abs(below - (list == 0 ? 30 : list == 1 ? 100 : 170)) <= 2);  // values may tie to the four digits
    }
  }
}

TEST_CASE("nothing that is measured changes the network", "[measure]") {
  const Dataset data = draw_dataset(300, 300, 1);
  const Network<float> network = small_network(data, true);
  const Batch<float> before = network.infer(data.test.images);
  input_percentiles(network, data.train.images, Random(2));
  gradient_norms(network, data.train, Random(2));
  learned_parameters(network, data.test.images);
  compare_inference(network, data.test, 1);
  CHECK(matrix(network.infer(data.test.images)) == matrix(before));
  CHECK(network.hidden()[0].norm->num_batches_tracked() == 0);
}

TEST_CASE("gamma and beta can undo the normalization", "[measure]") {
  const Dataset data = draw_dataset(300, 100, 1);
  Network<float> network = small_network(data);
  Random random(3);
  for (int i = 0; i < 5; ++i) network.forward(data.train.images, random);  // running statistics that are not 0 and 1
  const nlohmann::json found = learned_parameters(network, data.test.images);
  CHECK(found["gamma"][1].size() == 6);
  CHECK(found["identity_error"].get<double>() < 1e-6);  // a few roundings of a float
}

TEST_CASE("inference of one sample has the bits that it has in a batch, and training mode refuses it", "[measure]") {
  const Dataset data = draw_dataset(300, 300, 1);
  const nlohmann::json found = compare_inference(small_network(data, true), data.test, 1);
  CHECK(found["batch_of_1_has_the_same_bits"] == true);
  CHECK(found["same_predictions"] == found["of_predictions"]);
  CHECK(found["batch_of_1_is_refused_in_training_mode"] == true);
  REQUIRE(found["training_mode"].size() == 9);
  CHECK(found["training_mode"][8]["batch_size"] == 256);
}

TEST_CASE("in training mode a batch of one tells nothing of its image", "[measure]") {
  const Dataset data = draw_dataset(300, 300, 1);
  const nlohmann::json found = compare_inference(small_network(data, true), data.test, 1);
  CHECK(found["training_mode"][0]["shuffled"].get<double>() == 0.1);  // the same class for all, and there are ten
}
