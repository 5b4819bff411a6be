// A layer of any rank, layout and options, called in any order with any shapes, beside the oracle. The bytes are read
// as a recipe: what they do not say is 0, so that every input means something.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../duel.hpp"

namespace {

class Recipe {
 public:
  Recipe(const std::uint8_t* data, std::size_t size) : next_(data), end_(data + size) {}

  bool empty() const { return next_ == end_; }
  unsigned byte() { return empty() ? 0u : *next_++; }
  bool flag() { return byte() % 2 == 1; }
  template <typename T, std::size_t N>
  const T& one_of(const T (&choices)[N]) {
    return choices[byte() % N];
  }

 private:
  const std::uint8_t *next_, *end_;
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

constexpr std::int64_t extents_to_try[] = {2, 1, 3, 0, 5, 7, 8, 16, 17, 33, 64, 65};
constexpr std::int64_t largest_size = 30000;

// The extents of a tensor with these channels, small enough to take little time.
oracle::Extents read_extents(Recipe& recipe, int rank, int axis, std::int64_t channels) {
  oracle::Extents extents(static_cast<std::size_t>(rank), 1);
  std::int64_t size = channels;
  for (int d = 0; d < rank; ++d) {
    auto& extent = extents[static_cast<std::size_t>(d)];
    extent = d == axis ? channels : recipe.one_of(extents_to_try);
    if (d == axis) continue;
    if (size * extent > largest_size) extent = 1;
    size *= extent == 0 ? 1 : extent;
  }
  return extents;
}

// Values around an offset, or a constant that sums exactly.
template <typename T>
std::vector<T> read_values(Recipe& recipe, std::size_t size) {
  constexpr double offsets[] = {0, 1, -100, 0.25}, deviations[] = {1, 0.01, 1000, 0};
  const double offset = recipe.one_of(offsets), deviation = recipe.one_of(deviations);
  return Random(recipe.byte()).vector<T>(size, offset - deviation, offset + deviation);
}

batchnorm::BatchNormOptions read_options(Recipe& recipe, int rank, int axis, std::int64_t channels) {
  constexpr double epsilons[] = {1e-5, 0, 1e-3, 1};
  const std::optional<double> momenta[] = {0.1, std::nullopt, 0.0, 1.0, 0.5};
  constexpr batchnorm::SingleValue policies[] = {batchnorm::SingleValue::error, batchnorm::SingleValue::skip_update,
                                                 batchnorm::SingleValue::use_running, batchnorm::SingleValue::allow};
  batchnorm::BatchNormOptions options(channels);
  options.channel_axis(recipe.flag() ? axis - rank : axis)
      .epsilon(recipe.one_of(epsilons))
      .momentum(recipe.one_of(momenta))
      .scale(!recipe.flag())
      .shift(!recipe.flag())
      .running_variance(recipe.flag() ? batchnorm::Variance::biased : batchnorm::Variance::unbiased)
      .single_value(recipe.one_of(policies));
  const bool needs_running = options.single_value() == batchnorm::SingleValue::use_running;
  return options.track_running_stats(needs_running || !recipe.flag());
}

// Where an error is due, it must come and leave the layer as it was.
template <typename Error, typename T, typename Call>
void expect(const AnyLayer<T>& layer, const Call& call) {
  const auto before = layer.state();
  try {
    call();
  } catch (const Error&) {
    if (!(layer.state() == before)) fail("a call that threw has changed the layer");
    return;
  }
  fail("a call that had to throw did not");
}

template <typename T>
void run(Recipe& recipe) {
  const int rank = 2 + static_cast<int>(recipe.byte() % 4), axis = static_cast<int>(recipe.byte()) % rank;
  const bool row_major = recipe.flag();
  constexpr std::int64_t channel_counts[] = {3, 1, 2, 5, 8, 17, 64, 100};
  const std::int64_t channels = recipe.one_of(channel_counts);
  oracle::Geometry geometry{read_extents(recipe, rank, axis, channels), row_major, axis};
  const auto options = read_options(recipe, rank, axis, channels);

  // As the library promises; a gradient of the weight is the most delicate of all in double.
  const bool is_float = sizeof(T) == sizeof(float);
  const oracle::Real tolerance = is_float ? 1e-6L : 1e-13L;
  Duel<T> duel(geometry, options, Tolerances{tolerance, tolerance, tolerance, is_float ? 1e-6L : 1e-9L, tolerance});
  Random random(recipe.byte());
  if (recipe.flag()) duel.randomize(random);

  std::optional<std::vector<T>> last_x;
  for (int step = 0; step < 8 && !recipe.empty() && duel.complaint().empty(); ++step) {
    const auto shape = recipe.one_of(call_shapes);
    switch (recipe.byte() % 6) {
      case 0: {
        geometry.extents = read_extents(recipe, rank, axis, channels);
        const auto x = read_values<T>(recipe, static_cast<std::size_t>(geometry.size()));
        const bool from_batch = duel.exact.training || !options.track_running_stats();
        const bool single = geometry.size() == channels;
        if (from_batch && single && options.single_value() == batchnorm::SingleValue::error) {
          std::vector<T> y(x.size());
          expect<std::invalid_argument>(*duel.layer,
                                        [&] { duel.layer->forward(geometry.extents, x.data(), y.data(), shape); });
          last_x.reset();
          return;  // what the last forward was is no longer what geometry says
        }
        duel.forward(geometry, x, shape);
        last_x = x;
        break;
      }
      case 1: {
        const auto dy = read_values<T>(recipe, static_cast<std::size_t>(geometry.size()));
        if (last_x) {
          constexpr Place places[] = {Place::apart, Place::over_x, Place::over_dy};
          duel.backward(geometry, *last_x, dy, shape, recipe.one_of(places));
        } else {
          std::vector<T> dx(dy.size());
          expect<std::logic_error>(
              *duel.layer, [&] { duel.layer->backward(geometry.extents, dy.data(), dy.data(), dx.data(), shape); });
        }
        break;
      }
      case 2: {
        const oracle::Geometry other{read_extents(recipe, rank, axis, channels), row_major, axis};
        const auto x = read_values<T>(recipe, static_cast<std::size_t>(other.size()));
        const bool single = other.size() == channels;
        if (!options.track_running_stats() && single && options.single_value() == batchnorm::SingleValue::error) break;
        duel.infer(other, x, shape);
        break;
      }
      case 3:
        duel.train(recipe.flag());
        break;
      case 4:
        duel.zero_grad();
        break;
      case 5:
        duel.randomize(random);
        break;
    }
  }
  if (!duel.complaint().empty()) fail(duel.complaint());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Recipe recipe(data, size);
  recipe.flag() ? run<double>(recipe) : run<float>(recipe);
  return 0;
}
