// Digits that the program draws itself, where there are no real images: a pen follows the strokes of a glyph, bent,
// slanted, turned, scaled and shifted at random, with a pen of random width and strength, and noise lies over the
// picture.

#ifndef WHY_BATCH_NORM_DRAW_DIGITS_HPP
#define WHY_BATCH_NORM_DRAW_DIGITS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dataset.hpp"
#include "glyphs.hpp"
#include "random.hpp"

namespace why_batch_norm {

constexpr Index drawing_side = 16;
constexpr int drawn_classes = 10;

namespace detail {

// What one picture does to every point of its glyph.
class Handwriting {
 public:
  explicit Handwriting(Random& random)
      : shift_{random.uniform(-0.09, 0.09), random.uniform(-0.09, 0.09)},
        scale_{random.uniform(0.72, 1.1), random.uniform(0.75, 1.05)},
        slant_(random.uniform(-0.40, 0.10)),
        angle_(random.uniform(-0.20, 0.20)),
        wobble_{random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05)},
        phase_{random.uniform(0, 6.28), random.uniform(0, 6.28)} {}

  Point operator()(Point p) const {
    const double bent_x = p.x - 0.5 + wobble_.x * std::sin(6.0 * p.y + phase_.x);
    const double bent_y = p.y - 0.5 + wobble_.y * std::sin(6.0 * p.x + phase_.y);
    const double x = scale_.x * bent_x + slant_ * bent_y;
    const double y = scale_.y * bent_y;
    return {0.5 + shift_.x + std::cos(angle_) * x - std::sin(angle_) * y,
            0.5 + shift_.y + std::sin(angle_) * x + std::cos(angle_) * y};
  }

 private:
  Point shift_;
  Point scale_;
  double slant_;  // sideways per unit of height
  double angle_;  // in radians
  Point wobble_;
  Point phase_;
};

inline double distance_to_line(Point p, Point from, Point to) {
  const double along_x = to.x - from.x;
  const double along_y = to.y - from.y;
  const double length2 = along_x * along_x + along_y * along_y;
  const double dot = (p.x - from.x) * along_x + (p.y - from.y) * along_y;
  const double t = length2 > 0 ? std::clamp(dot / length2, 0.0, 1.0) : 0.0;
  return std::hypot(p.x - from.x - t * along_x, p.y - from.y - t * along_y);
}

inline double distance_to_glyph(Point p, const Glyph& glyph) {
  double nearest = 2.0;
  for (const Stroke& stroke : glyph) {
    for (std::size_t i = 1; i < stroke.size(); ++i) {
      nearest = std::min(nearest, distance_to_line(p, stroke[i - 1], stroke[i]));
    }
  }
  return nearest;
}

}  // namespace detail

// Draws one digit into drawing_side * drawing_side pixels.
inline void draw_digit(int digit, Random& random, float* pixels) {
  const std::vector<Glyph>& hands = digit_glyphs()[static_cast<std::size_t>(digit)];
  Glyph glyph = hands[random.below(hands.size())];
  const detail::Handwriting handwriting(random);
  for (Stroke& stroke : glyph) std::transform(stroke.begin(), stroke.end(), stroke.begin(), handwriting);

  const double pen_radius = random.uniform(0.03, 0.07);
  const double strength = random.uniform(0.6, 1.0);
  const double noise = random.uniform(0.03, 0.20);
  constexpr double pixel = 1.0 / drawing_side;
  for (Index row = 0; row < drawing_side; ++row) {
    for (Index column = 0; column < drawing_side; ++column) {
      const Point center{(static_cast<double>(column) + 0.5) * pixel, (static_cast<double>(row) + 0.5) * pixel};
      const double edge = (pen_radius - detail::distance_to_glyph(center, glyph)) / pixel;  // in pixels
      const double ink = strength * std::clamp(edge + 0.5, 0.0, 1.0) + noise * random.normal();
      *pixels++ = static_cast<float>(std::clamp(ink, 0.0, 1.0));
    }
  }
}

// Equally many of each digit, in random order.
inline Examples draw_examples(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Examples examples;
  for (std::size_t i = 0; i < count; ++i) examples.labels.push_back(static_cast<int>(i % drawn_classes));
  random.shuffle(examples.labels);
  constexpr Index pixels = drawing_side * drawing_side;
  examples.images.resize(static_cast<Index>(count), pixels);
  for (std::size_t i = 0; i < count; ++i) {
    draw_digit(examples.labels[i], random, examples.images.data() + static_cast<Index>(i) * pixels);
  }
  return examples;
}

inline Dataset draw_dataset(std::size_t train_count, std::size_t test_count, std::uint64_t seed) {
  return {"drawn digits",
          drawing_side,
          drawing_side,
          drawn_classes,
          draw_examples(train_count, 2 * seed),
          {},
          draw_examples(test_count, 2 * seed + 1)};
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_DRAW_DIGITS_HPP
