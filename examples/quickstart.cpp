#include <batchnorm/batchnorm.hpp>
#include <iostream>
#include <thread>

int main() {
  Eigen::MatrixXf x = Eigen::MatrixXf::Random(256, 64), dy = Eigen::MatrixXf::Random(256, 64);  // samples x features
  batchnorm::BatchNorm<float, 2> bn(64);

  Eigen::MatrixXf y = bn.forward(x);        // training: statistics of the batch, running averages updated
  Eigen::MatrixXf dx = bn.backward(x, dy);  // adds into bn.weight_grad() and bn.bias_grad()
  for (int c = 0; c < 64; ++c) {            // a step of gradient descent
    bn.weight()(c) -= 0.1f * bn.weight_grad()(c);
    bn.bias()(c) -= 0.1f * bn.bias_grad()(c);
  }
  bn.zero_grad();

  const auto& trained = bn;  // infer changes nothing: any number of threads may share a trained layer
  Eigen::MatrixXf first(128, 64), second(128, 64);
  std::thread other([&] { trained.infer(x.topRows(128), first); });
  trained.infer(x.bottomRows(128), second);
  other.join();
  std::cout << "the first value, normalized: " << y(0, 0) << ", its gradient: " << dx(0, 0) << "\n";
}
