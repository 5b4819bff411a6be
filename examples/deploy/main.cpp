// From a network that PyTorch trained to one that many threads share, and back.

#include <batchnorm/safetensors.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>

#include "network.hpp"
#include "serving.hpp"
#include "training.hpp"

namespace {

double largest_difference(const Matrix& a, const Matrix& b) {
  return static_cast<double>((a - b).cwiseAbs().maxCoeff() / b.cwiseAbs().maxCoeff());
}

template <class AnyNetwork>
void print_latencies(const char* name, const AnyNetwork& network, const Matrix& x, int threads, int requests) {
  const Latencies latencies = serve(network, x, threads, requests);
  std::printf("%-20s %8.1f %8.1f %8.1f %9.1f %12.0f\n", name, latencies.percentile(0.5), latencies.percentile(0.99),
              latencies.percentile(0.999), latencies.sorted.back(),
              static_cast<double>(latencies.sorted.size()) / latencies.seconds);
}

// Loads a network of train.py's, compares its outputs with PyTorch's, folds it, and serves both.
int serve_file(const std::string& path, int threads, int requests, int batch) {
  const batchnorm::StateDict dict = batchnorm::load_safetensors(path);
  const Network network(dict);
  const FoldedNetwork folded(network);
  const auto x = dict.get<Matrix>("input"), expected = dict.get<Matrix>("output");
  const double difference = largest_difference(network(x), expected);
  const double folded_difference = largest_difference(folded(x), expected);
  std::mt19937 random(1);
  const Batch test = draw_batch(10000, random);
  std::printf("%s: %zu arrays, %.1f %% of new points right, %.1f %% with the layers folded away\n", path.c_str(),
              dict.size(), 100 * accuracy(network, test), 100 * accuracy(folded, test));
  std::printf("largest difference from PyTorch's outputs, relative: %.1e, folded: %.1e\n", difference,
              folded_difference);
  std::printf("\n%d threads share one const network, %d requests of %d points each; microseconds\n\n", threads,
              requests, batch);
  std::printf("%-20s %8s %8s %8s %9s %12s\n", "", "50 %", "99 %", "99.9 %", "longest", "per second");
  const Matrix points = test.x.topRows(batch);
  print_latencies("with its layers", network, points, threads, requests);
  print_latencies("folded", folded, points, threads, requests);
  return difference < 1e-5 && folded_difference < 1e-5 ? 0 : 1;
}

// Trains a network here and saves it with some inputs and outputs, for check.py.
int train_file(const std::string& path, int steps) {
  std::mt19937 random(2);
  Network network = new_network();
  for (int step = 0; step < steps; ++step) train_on(network, draw_batch(128, random), 0.2f);
  const Batch test = draw_batch(10000, random);
  const double share = accuracy(network, test);
  const Matrix input = test.x.topRows(64);
  batchnorm::StateDict dict = network.state_dict();
  dict.add("input", input).add("output", network(input));
  batchnorm::save_safetensors(path, dict);
  std::printf("%s: trained here for %d steps, %.1f %% of new points right\n", path.c_str(), steps, 100 * share);
  return share > 0.9 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A network with batch normalization from PyTorch to C++ and back");
  app.require_subcommand(1);
  std::string path;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency())), requests = 20000, batch = 16,
      steps = 2000;

  CLI::App* const serve = app.add_subcommand("serve", "Loads a network and serves it from many threads");
  serve->add_option("file", path, "what train.py has written")->required();
  serve->add_option("--threads", threads, "how many threads")->check(CLI::Range(1, 1024))->capture_default_str();
  serve->add_option("--requests", requests, "requests of each thread")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  serve->add_option("--batch", batch, "points in a request")->check(CLI::Range(1, 10000))->capture_default_str();

  CLI::App* const train = app.add_subcommand("train", "Trains a network and writes it for check.py");
  train->add_option("file", path, "where to")->required();
  train->add_option("--steps", steps, "steps of gradient descent")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  try {
    return serve->parsed() ? serve_file(path, threads, requests, batch) : train_file(path, steps);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
