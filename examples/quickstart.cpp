#define EIGEN_USE_THREADS  // only for the thread pool below, and before the first include of Eigen

#include <batchnorm/batchnorm.hpp>
#include <iostream>
#include <thread>
#include <unsupported/Eigen/CXX11/Tensor>

int main() {
  batchnorm::BatchNorm<float, 4> bn(64);  // 64 channels; rank 4, e.g. N,C,H,W
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(32, 64, 56, 56), dy(32, 64, 56, 56);
  x.setRandom();
  dy.setRandom();

  auto y = bn.forward(x);        // training: batch statistics, running ones updated
  auto dx = bn.backward(x, dy);  // also adds into weight_grad(), bias_grad()
  auto z = bn.infer(x);          // inference: running statistics, whatever the mode

  Eigen::ThreadPool pool(8);
  Eigen::ThreadPoolDevice device(&pool, 8);
  bn.forward(device, x, y);  // into memory the caller owns, on the caller's threads
  bn.infer(device, y, y);    // in place

  const auto& trained = bn;  // infer changes nothing: any number of threads may share a trained layer
  std::thread other([&] { trained.infer(x, y); });
  trained.infer(x, z);
  other.join();

  std::cout << "the first value, normalized: " << z(0, 0, 0, 0) << ", and its gradient: " << dx(0, 0, 0, 0) << "\n";
}
