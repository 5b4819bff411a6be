// Digits learned by several processes that share each batch: the losses are those of one process.

#include <batchnorm/mpi.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "draw_digits.hpp"
#include "network.hpp"
#include "processes.hpp"
#include "softmax_cross_entropy.hpp"

namespace {

using namespace train_digits_mpi;

struct Settings {
  std::size_t steps = 300, batch = 128, images = 4000;
  double learning_rate = 0.2;
  std::string losses, compare;
};

double accuracy(const Network& network, const why_batch_norm::Examples& examples) {
  const Batch<Scalar> logits = network.infer(Batch<Scalar>(examples.images.cast<Scalar>()));
  std::size_t right = 0;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    Index best = 0;
    why_batch_norm::matrix(logits).row(static_cast<Index>(i)).maxCoeff(&best);
    right += best == examples.labels[i] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(examples.size());
}

std::vector<double> train(Network& network, const why_batch_norm::Examples& examples, const Settings& settings,
                          const batchnorm::MpiCommunicator& processes, Random& random) {
  // All processes shuffle alike, and each takes its share of each batch.
  const Share share = share_of(settings.batch, processes);
  std::vector<std::size_t> order(examples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::size_t position = order.size();
  auto parameters = network.parameters();
  std::vector<double> losses, memory;
  why_batch_norm::Examples own;
  Batch<Scalar> dlogits;
  for (std::size_t step = 0; step < settings.steps; ++step) {
    if (position + settings.batch > order.size()) {
      random.shuffle(order);
      position = 0;
    }
    why_batch_norm::gather(examples, order, position + share.begin, position + share.end, own);
    position += settings.batch;

    const Batch<Scalar> x = own.images.cast<Scalar>();
    const Batch<Scalar> logits = network.forward(x);
    double loss = 0;
    dlogits.resize(logits.dimensions());
    if (own.size() > 0) {
      // The loss is the mean over the whole batch, and softmax_cross_entropy takes that of the share.
      const double part = static_cast<double>(own.size()) / static_cast<double>(settings.batch);
      loss = part * why_batch_norm::softmax_cross_entropy(logits, own.labels, dlogits);
      why_batch_norm::matrix(dlogits) *= part;
    }
    network.backward(x, dlogits);
    losses.push_back(sum_over_processes(loss, parameters, processes, memory));
    for (auto& parameter : parameters) parameter.value -= settings.learning_rate * parameter.gradient;
  }
  return losses;
}

void write(const std::string& path, const std::vector<double>& losses) {
  std::ofstream file(path);
  for (const double loss : losses) file << std::setprecision(17) << loss << '\n';
  if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}

/// The largest difference, relative to the loss.
double difference_from(const std::string& path, const std::vector<double>& losses) {
  std::ifstream file(path);
  double largest = 0;
  for (const double loss : losses) {
    double other = 0;
    if (!(file >> other)) throw std::runtime_error(path + " has fewer losses than there are steps");
    largest = std::max(largest, std::abs(loss - other) / other);
  }
  return largest;
}

int run(const Settings& settings, const batchnorm::MpiCommunicator& processes) {
  const why_batch_norm::Dataset data = why_batch_norm::draw_dataset(settings.images, 1000, 1);
  if (settings.batch > data.train.size()) throw std::runtime_error("a batch is larger than the images that there are");
  Random random(3);
  Network network(data.height * data.width, {64, 64}, data.classes, processes, random);
  const std::vector<double> losses = train(network, data.train, settings, processes, random);
  const bool same = same_on_all(network.parameters(), processes);

  int result = 0;
  if (processes.rank() == 0) {
    std::printf("%d processes, batches of %zu, of which the first has %zu\n", processes.size(), settings.batch,
                share_of(settings.batch, processes).end);
    for (std::size_t step = 0; step < losses.size(); step += std::max<std::size_t>(1, losses.size() / 6)) {
      std::printf("step %4zu: loss %.6f\n", step + 1, losses[step]);
    }
    std::printf("step %4zu: loss %.6f, %.1f %% of new digits right\n", losses.size(), losses.back(),
                100 * accuracy(network, data.test));
    std::printf("%s\n", same ? "All processes hold the same network." : "The processes hold different networks.");
    if (!settings.losses.empty()) write(settings.losses, losses);
    if (!settings.compare.empty()) {
      const double difference = difference_from(settings.compare, losses);
      std::printf("Largest difference from the losses in %s: %.1e of the loss\n", settings.compare.c_str(), difference);
      if (!(difference < 1e-9)) result = 1;
    }
    if (!same) result = 1;
  }
  MPI_Bcast(&result, 1, MPI_INT, 0, processes.handle());
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  CLI::App app("Digits learned by several processes that share each batch");
  Settings settings;
  app.add_option("--steps", settings.steps, "steps of gradient descent")->check(CLI::Range(1, 1000000));
  app.add_option("--batch", settings.batch, "images in a batch, over all processes")->check(CLI::Range(2, 100000));
  app.add_option("--images", settings.images, "images to learn from")->check(CLI::Range(2, 1000000));
  app.add_option("--learning-rate", settings.learning_rate, "the learning rate");
  app.add_option("--losses", settings.losses, "a file for the losses");
  app.add_option("--compare", settings.compare,
                 "a file of another run's losses, which are to be the same but for rounding");
  int result = 1;
  try {
    app.parse(argc, argv);
    result = run(settings, batchnorm::MpiCommunicator(MPI_COMM_WORLD));
  } catch (const CLI::ParseError& error) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    result = rank == 0 ? app.exit(error) : error.get_exit_code();
  } catch (const std::exception& error) {
    // The others may wait for this process.
    std::fprintf(stderr, "%s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return result;
}
