// A small network of linear maps and batch normalization: as it was trained, and as it is deployed.

#ifndef DEPLOY_NETWORK_HPP
#define DEPLOY_NETWORK_HPP

#include <batchnorm/batchnorm.hpp>

#include <string>

/// Samples are rows.
using Matrix = Eigen::MatrixXf;
using Vector = Eigen::VectorXf;

/// y = x W^T + b, with W of [out, in] as PyTorch stores it.
struct Linear {
  Matrix weight;
  Vector bias;

  Linear(const batchnorm::StateDict& dict, const std::string& prefix)
      : weight(dict.get<Matrix>(prefix + "weight")), bias(dict.get<Vector>(prefix + "bias")) {}

  Matrix operator()(const Matrix& x) const { return (x * weight.transpose()).rowwise() + bias.transpose(); }

  /// Saves under the names under which the constructor loads.
  void save(batchnorm::StateDict& dict, const std::string& prefix) const {
    dict.add(prefix + "weight", weight).add(prefix + "bias", bias);
  }
};

/// Batch normalization and relu, in one pass.
using Norm = batchnorm::BatchNorm<float, 2>;
inline Norm norm_of(Eigen::Index features) {
  return batchnorm::BatchNormOptions(features).activation(batchnorm::Activation::relu);
}

/// fc1, bn1, relu, fc2, bn2, relu, head: the parts have the names that train.py gives them.
struct Network {
  Linear fc1, fc2, head;
  Norm bn1, bn2;

  explicit Network(const batchnorm::StateDict& dict)
      : fc1(dict, "net.fc1."),
        fc2(dict, "net.fc2."),
        head(dict, "net.head."),
        bn1(norm_of(fc1.bias.size())),
        bn2(norm_of(fc2.bias.size())) {
    bn1.load_state_dict(dict, "net.bn1.");
    bn2.load_state_dict(dict, "net.bn2.");
  }

  /// Inference, which changes nothing: any number of threads may call it at once.
  Matrix operator()(const Matrix& x) const {
    const Matrix h1 = bn1.infer(fc1(x)), h2 = bn2.infer(fc2(h1));
    return head(h2);
  }

  batchnorm::StateDict state_dict() const {
    batchnorm::StateDict dict = bn1.state_dict("net.bn1.");
    dict.merge(bn2.state_dict("net.bn2."));
    fc1.save(dict, "net.fc1.");
    fc2.save(dict, "net.fc2.");
    head.save(dict, "net.head.");
    return dict;
  }
};

/// The same network without batch normalization: the linear maps have taken it in. The relu of its layers is left.
struct FoldedNetwork {
  Linear fc1, fc2, head;

  explicit FoldedNetwork(const Network& network) : fc1(network.fc1), fc2(network.fc2), head(network.head) {
    network.bn1.fold_into(fc1.weight, fc1.bias);
    network.bn2.fold_into(fc2.weight, fc2.bias);
  }

  Matrix operator()(const Matrix& x) const {
    const Matrix h1 = fc1(x).cwiseMax(0), h2 = fc2(h1).cwiseMax(0);
    return head(h2);
  }
};

#endif  // DEPLOY_NETWORK_HPP
