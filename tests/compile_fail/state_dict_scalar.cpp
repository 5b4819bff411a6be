// expects: batchnorm: a state dict holds float and double: cast a layer of another type to one of these, as in
// bn.cast<double>().state_dict()

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<long double, 2> bn(3);
  bn.state_dict();
}
