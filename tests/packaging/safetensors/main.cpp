// Saves a layer and loads it.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/npy.hpp>
#include <batchnorm/safetensors.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> saved(3), loaded(3);
  saved.set_weight({1.0f, 2.0f, 3.0f});
  batchnorm::save_safetensors("consumer.safetensors", saved.state_dict("bn."));
  loaded.load_state_dict(batchnorm::load_safetensors("consumer.safetensors"), "bn.");
  batchnorm::save_npy("consumer.npy", loaded.weight());
  return batchnorm::load_npy<Eigen::Vector3f>("consumer.npy") == Eigen::Vector3f(1, 2, 3) ? 0 : 1;
}
