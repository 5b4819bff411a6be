// The shapes of the digits as pen strokes, in a unit square with y pointing down.

#ifndef WHY_BATCH_NORM_GLYPHS_HPP
#define WHY_BATCH_NORM_GLYPHS_HPP

#include <cmath>
#include <vector>

namespace why_batch_norm {

struct Point {
  double x;
  double y;
};

using Stroke = std::vector<Point>;  // joined by straight lines
using Glyph = std::vector<Stroke>;

namespace detail {

constexpr int curve_points = 14;

// An arc of an ellipse; degrees run clockwise from the right: 90 is the bottom, 180 the left, 270 the top.
inline Stroke arc(Point center, double radius_x, double radius_y, double from, double to) {
  constexpr double radians = 3.141592653589793 / 180.0;
  Stroke stroke;
  for (int i = 0; i <= curve_points; ++i) {
    const double angle = radians * (from + (to - from) * i / curve_points);
    stroke.push_back({center.x + radius_x * std::cos(angle), center.y + radius_y * std::sin(angle)});
  }
  return stroke;
}

// A quadratic Bezier curve.
inline Stroke bend(Point from, Point control, Point to) {
  Stroke stroke;
  for (int i = 0; i <= curve_points; ++i) {
    const double t = static_cast<double>(i) / curve_points;
    const double s = 1.0 - t;
    stroke.push_back(
        {s * s * from.x + 2 * s * t * control.x + t * t * to.x, s * s * from.y + 2 * s * t * control.y + t * t * to.y});
  }
  return stroke;
}

// One stroke after the other without lifting the pen.
inline Stroke join(Stroke first, const Stroke& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace detail

// For each digit the ways in which people write it.
inline const std::vector<std::vector<Glyph>>& digit_glyphs() {
  using detail::arc;
  using detail::bend;
  using detail::join;
  static const std::vector<std::vector<Glyph>> glyphs = {
      {{arc({0.50, 0.50}, 0.24, 0.36, 270, 630)}, {arc({0.50, 0.50}, 0.30, 0.34, 250, 610)}},
      {{{{0.36, 0.28}, {0.54, 0.13}, {0.54, 0.87}}},
       {{{0.50, 0.12}, {0.50, 0.88}}},
       {{{0.36, 0.28}, {0.52, 0.13}, {0.52, 0.87}}, {{0.32, 0.87}, {0.72, 0.87}}}},
      {{join(arc({0.49, 0.34}, 0.22, 0.21, 190, 385), {{0.27, 0.86}, {0.75, 0.86}})},
       {join(join(arc({0.48, 0.34}, 0.22, 0.21, 200, 400), bend({0.50, 0.62}, {0.26, 0.90}, {0.24, 0.76})),
             bend({0.24, 0.76}, {0.40, 0.68}, {0.78, 0.86}))}},
      {{join(arc({0.46, 0.31}, 0.23, 0.19, 205, 450), arc({0.46, 0.68}, 0.26, 0.19, 270, 510))},
       {join({{0.26, 0.14}, {0.70, 0.14}, {0.46, 0.44}}, arc({0.46, 0.65}, 0.26, 0.21, 270, 510))}},
      {{{{0.60, 0.13}, {0.23, 0.62}, {0.79, 0.62}}, {{0.60, 0.13}, {0.60, 0.88}}},
       {{{0.32, 0.14}, {0.26, 0.54}, {0.76, 0.54}}, {{0.66, 0.16}, {0.62, 0.88}}}},
      {{join({{0.73, 0.14}, {0.35, 0.14}, {0.31, 0.47}}, arc({0.48, 0.64}, 0.25, 0.23, 235, 515))},
       {{{0.38, 0.16}, {0.74, 0.14}}, join({{0.38, 0.16}, {0.34, 0.44}}, arc({0.46, 0.65}, 0.25, 0.21, 250, 500))}},
      {{join(bend({0.66, 0.13}, {0.30, 0.28}, {0.28, 0.66}), arc({0.50, 0.67}, 0.22, 0.20, 180, 540))},
       {join(bend({0.44, 0.12}, {0.28, 0.40}, {0.30, 0.70}), arc({0.49, 0.70}, 0.19, 0.17, 180, 530))}},
      {{{{0.24, 0.15}, {0.76, 0.15}, {0.42, 0.88}}},
       {{{0.24, 0.15}, {0.76, 0.15}, {0.42, 0.88}}, {{0.36, 0.52}, {0.72, 0.52}}},
       {join({{0.26, 0.28}, {0.28, 0.15}}, bend({0.28, 0.15}, {1.02, 0.10}, {0.44, 0.88}))}},
      {{arc({0.50, 0.31}, 0.18, 0.18, 90, 450), arc({0.50, 0.68}, 0.22, 0.20, 270, 630)},
       {join(arc({0.50, 0.31}, 0.20, 0.18, 340, 95), arc({0.50, 0.69}, 0.21, 0.19, 270, 630)),
        {{0.52, 0.49}, {0.70, 0.25}}}},
      {{join(arc({0.48, 0.33}, 0.21, 0.20, 0, 360), bend({0.69, 0.33}, {0.70, 0.66}, {0.54, 0.88}))},
       {arc({0.49, 0.32}, 0.20, 0.19, 0, 360), {{0.69, 0.18}, {0.67, 0.88}}},
       {join(arc({0.48, 0.33}, 0.21, 0.20, 0, 360),
             join(bend({0.69, 0.33}, {0.74, 0.86}, {0.48, 0.87}), {{0.30, 0.78}}))}}};
  return glyphs;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_GLYPHS_HPP
