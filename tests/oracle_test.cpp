// The oracle judged by itself: its backward is the derivative of its forward.

#include "catch.hpp"
#include "duel.hpp"

TEST_CASE("the oracle's gradients are the derivatives of its forward") {
  for (const auto& geometry : all_geometries()) {
    for (const bool training : {true, false}) {
      Random random(1);
      oracle::Layer layer(oracle::Settings{}, geometry.channels());
      for (auto* values : {&layer.weight, &layer.bias, &layer.running_mean}) {
        for (auto& value : *values) value = random.uniform(-2, 2);
      }
      for (auto& value : layer.running_var) value = random.uniform(0.5, 3);
      layer.training = training;
      auto x = random.tensor<oracle::Real>(geometry);
      const auto dy = random.vector<oracle::Real>(x.size(), -1, 1);
      const auto frozen = layer;  // each forward starts from the same running statistics
      layer.forward(geometry, x);
      const auto dx = layer.backward(geometry, x, dy);

      const auto derivative = [&](oracle::Layer& varied, oracle::Real& parameter) {
        const auto loss_at = [&](oracle::Real value) {
          parameter = value;
          auto copy = varied;
          const auto y = copy.forward(geometry, x);
          oracle::Real loss = 0;
          for (std::size_t i = 0; i < y.size(); ++i) loss += y[i] * dy[i];
          return loss;
        };
        // Central differences of fourth order: h^4 = 1e-12, rounding 1e-19 / h = 1e-16.
        const oracle::Real value = parameter, h = 1e-3L;
        const auto near = loss_at(value + h) - loss_at(value - h);
        const auto far = loss_at(value + 2 * h) - loss_at(value - 2 * h);
        parameter = value;
        return (8 * near - far) / (12 * h);
      };
      oracle::Real worst = 0;
      auto varied = frozen;
      for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(derivative(varied, x[i]) - dx[i]));
      for (std::size_t c = 0; c < layer.weight.size(); ++c) {
        worst = std::max(worst, std::abs(derivative(varied, varied.weight[c]) - layer.weight_grad[c]));
        worst = std::max(worst, std::abs(derivative(varied, varied.bias[c]) - layer.bias_grad[c]));
      }
      INFO(geometry);
      CHECK(worst < 1e-9L);
    }
  }
}
