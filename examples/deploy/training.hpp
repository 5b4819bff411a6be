// The network's own training: three spirals in the plane, told apart.

#ifndef DEPLOY_TRAINING_HPP
#define DEPLOY_TRAINING_HPP

#include <cmath>
#include <random>

#include "network.hpp"

constexpr int features = 2, hidden = 64, classes = 3;

/// Points and the numbers of their spirals.
struct Batch {
  Matrix x;
  Eigen::VectorXi labels;
};

inline Batch draw_batch(Eigen::Index size, std::mt19937& random) {
  std::uniform_real_distribution<float> along(0.2f, 1);
  std::normal_distribution<float> noise(0, 0.1f);
  Batch batch{Matrix(size, features), Eigen::VectorXi(size)};
  for (Eigen::Index i = 0; i < size; ++i) {
    const float t = along(random);
    batch.labels(i) = static_cast<int>(random() % classes);
    const float angle = 4 * t + 2.0944f * static_cast<float>(batch.labels(i)) + noise(random);
    batch.x.row(i) << t * std::cos(angle), t * std::sin(angle);
  }
  return batch;
}

/// The share of the points that the network gives to their own spiral.
template <class AnyNetwork>
double accuracy(const AnyNetwork& network, const Batch& batch) {
  const Matrix scores = network(batch.x);
  int right = 0;
  for (Eigen::Index i = 0; i < scores.rows(); ++i) {
    Eigen::Index best = 0;
    scores.row(i).maxCoeff(&best);
    right += best == batch.labels(i) ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(scores.rows());
}

/// A network that has learned nothing yet.
inline Network new_network() {
  const auto add_map = [](batchnorm::StateDict& dict, const std::string& prefix, Eigen::Index out, Eigen::Index in) {
    const Matrix weight = Matrix::Random(out, in) / std::sqrt(static_cast<float>(in));
    dict.add(prefix + "weight", weight).add(prefix + "bias", Vector::Zero(out));
  };
  batchnorm::StateDict dict = Norm(hidden).state_dict("net.bn1.");
  dict.merge(Norm(hidden).state_dict("net.bn2."));
  add_map(dict, "net.fc1.", hidden, features);
  add_map(dict, "net.fc2.", hidden, hidden);
  add_map(dict, "net.head.", classes, hidden);
  return Network(dict);
}

/// Gradients of a linear map; gives that of its input.
inline Matrix step_back(Linear& map, const Matrix& x, const Matrix& dy, float rate) {
  const Matrix dx = dy * map.weight;
  map.weight -= rate * dy.transpose() * x;
  map.bias -= rate * dy.colwise().sum().transpose();
  return dx;
}

/// A step of gradient descent on one batch.
inline void train_on(Network& network, const Batch& batch, float rate) {
  const Matrix a1 = network.fc1(batch.x), h1 = network.bn1.forward(a1);
  const Matrix a2 = network.fc2(h1), h2 = network.bn2.forward(a2);

  // Softmax and cross entropy.
  Matrix dy = network.head(h2);
  dy = (dy.colwise() - dy.rowwise().maxCoeff()).array().exp();
  dy.array().colwise() /= dy.rowwise().sum().eval().array();
  for (Eigen::Index i = 0; i < dy.rows(); ++i) dy(i, batch.labels(i)) -= 1;
  dy /= static_cast<float>(dy.rows());

  const Matrix dh2 = step_back(network.head, h2, dy, rate);
  const Matrix dh1 = step_back(network.fc2, h1, network.bn2.backward(a2, dh2), rate);
  step_back(network.fc1, batch.x, network.bn1.backward(a1, dh1), rate);
  for (Norm* const bn : {&network.bn1, &network.bn2}) {
    for (auto& parameter : bn->parameters()) parameter.value -= rate * parameter.gradient;
    bn->zero_grad();
  }
}

#endif  // DEPLOY_TRAINING_HPP
