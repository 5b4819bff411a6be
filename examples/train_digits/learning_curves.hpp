// The learning curves as an image: a panel for each learning rate (across) and weight scale (down), in each the test
// accuracy by epoch with and without batch normalization.

#ifndef TRAIN_DIGITS_LEARNING_CURVES_HPP
#define TRAIN_DIGITS_LEARNING_CURVES_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "experiment.hpp"
#include "format.hpp"
#include "svg.hpp"
#include "training.hpp"

namespace train_digits {

namespace detail {

constexpr const char* ink_color = "#1f2328";
constexpr const char* quiet_color = "#59636e";
constexpr const char* grid_color = "#e4e8ec";
constexpr const char* with_color = "#0969da";
constexpr const char* without_color = "#d1570a";

inline std::string fill(const std::string& color) { return "fill=\"" + color + "\" "; }
inline std::string stroke(const std::string& color) { return "stroke=\"" + color + "\" "; }

class LearningCurves {
 public:
  LearningCurves(const Dataset& data, const TrainingOptions& options, const std::vector<double>& learning_rates,
                 const std::vector<double>& weight_scales, const std::vector<Comparison>& comparisons)
      : epochs_(options.epochs),
        columns_(learning_rates.size()),
        rows_(weight_scales.size()),
        width_(std::max(panel_x(columns_ - 1) + panel_width_ + right_, 700.0)),
        height_(panel_y(rows_ - 1) + panel_height_ + bottom_),
        svg_(width_, height_, "Test accuracy by epoch with and without batch normalization") {
    // Its own light background, so that it reads on a dark page too.
    svg_.rectangle(0.5, 0.5, width_ - 1, height_ - 1, "rx=\"10\" fill=\"#ffffff\" stroke=\"#d1d9e0\"");
    draw_title(data, options);
    draw_samples(data);
    for (std::size_t column = 0; column < columns_; ++column) {
      const double center = panel_x(column) + panel_width_ / 2;
      svg_.text(center, top_ - 38, "learning rate " + shortest(learning_rates[column]),
                "font-size=\"13\" font-weight=\"600\" text-anchor=\"middle\" " + fill(ink_color));
      svg_.text(center, height_ - 18, "epoch", "font-size=\"12\" text-anchor=\"middle\" " + fill(quiet_color));
    }
    for (std::size_t row = 0; row < rows_; ++row) {
      const double center = panel_y(row) + panel_height_ / 2;
      svg_.text(26, center, "weight scale " + shortest(weight_scales[row]),
                "font-size=\"13\" font-weight=\"600\" text-anchor=\"middle\" transform=\"rotate(-90 26 " +
                    fixed(center, 1) + ")\" " + fill(ink_color));
      for (std::size_t column = 0; column < columns_; ++column) {
        draw_panel(row, column, comparisons[column * rows_ + row]);
      }
    }
  }

  std::string str() const { return svg_.str(); }

 private:
  double panel_x(std::size_t column) const { return left_ + static_cast<double>(column) * panel_step_x_; }
  double panel_y(std::size_t row) const { return top_ + static_cast<double>(row) * panel_step_y_; }

  double x_of(double epoch) const {
    return epochs_ == 1 ? panel_width_ / 2 : panel_width_ * (epoch - 1) / (epochs_ - 1);
  }

  // The axis is logarithmic in the error, so that 95 % and 99 % are apart; 99.5 % and above are at its end.
  static double y_of(double accuracy) {
    const double end = -std::log10(0.005);
    return panel_height_ * (1.0 - std::min(-std::log10(std::max(1.0 - accuracy, 1e-9)), end) / end);
  }

  void draw_title(const Dataset& data, const TrainingOptions& options) {
    std::string shape = std::to_string(data.height * data.width);
    for (const Index hidden : options.hidden) shape += "-" + std::to_string(hidden);
    shape += "-" + std::to_string(digit_count);
    svg_.text(26, 40, "Learning to read digits", "font-size=\"20\" font-weight=\"700\" " + fill(ink_color));
    svg_.text(26, 68,
              data.name + ": " + std::to_string(data.train.size()) + " to train on, " +
                  std::to_string(data.test.size()) + " to test",
              "font-size=\"12\" " + fill(quiet_color));
    svg_.text(26, 86, "perceptron " + shape + "; test accuracy after each epoch, the axis logarithmic in the error",
              "font-size=\"12\" " + fill(quiet_color));
    draw_legend(26, 116, with_color, "with batch normalization");
    draw_legend(262, 116, without_color, "without");
  }

  void draw_legend(double x, double y, const std::string& color, const std::string& label) {
    svg_.line(x, y - 4, x + 26, y - 4, "stroke-width=\"2.5\" stroke-linecap=\"round\" " + stroke(color));
    svg_.circle(x + 13, y - 4, 3.2, fill(color));
    svg_.text(x + 34, y, label, "font-size=\"13\" font-weight=\"600\" " + fill(color));
  }

  // The first training image of each digit, at the top right.
  void draw_samples(const Dataset& data) {
    constexpr double side = 34;
    constexpr double step = 38;
    constexpr int shades = 5;
    const double pixel = side / static_cast<double>(std::max(data.height, data.width));
    const double left = width_ - right_ - (digit_count - 1) * step - side;
    constexpr double top = 22;
    std::vector<Svg::Points> squares(shades + 1);
    for (int digit = 0; digit < digit_count; ++digit) {
      const double x = left + digit * step;
      svg_.rectangle(x - 1, top - 1, side + 2, side + 2, "rx=\"2\" " + fill("#f6f8fa") + stroke("#d1d9e0"));
      const auto sample = std::find(data.train.labels.begin(), data.train.labels.end(), digit);
      if (sample == data.train.labels.end()) continue;
      const Index image = static_cast<Index>(sample - data.train.labels.begin());
      for (Index row = 0; row < data.height; ++row) {
        for (Index column = 0; column < data.width; ++column) {
          const float ink = data.train.images(image, row * data.width + column);
          squares[static_cast<std::size_t>(std::lround(ink * shades))].emplace_back(
              x + pixel * static_cast<double>(column), top + pixel * static_cast<double>(row));
        }
      }
    }
    for (int shade = 1; shade <= shades; ++shade) {
      svg_.squares(squares[static_cast<std::size_t>(shade)], pixel,
                   fill(ink_color) + "fill-opacity=\"" + fixed(static_cast<double>(shade) / shades, 1) + "\"");
    }
  }

  void draw_panel(std::size_t row, std::size_t column, const Comparison& comparison) {
    const double x = panel_x(column);
    const double y = panel_y(row);
    svg_.rectangle(x, y - 27, panel_width_, 20, "rx=\"3\" " + fill("#f3f5f7"));
    for (const int accuracy : {0, 50, 90, 95, 99}) {
      const double tick = y + y_of(accuracy / 100.0);
      svg_.line(x, tick, x + panel_width_, tick, stroke(grid_color));
      if (column == 0) {
        svg_.text(x - 8, tick + 4, std::to_string(accuracy) + " %",
                  "font-size=\"11\" text-anchor=\"end\" " + fill(quiet_color));
      }
    }
    for (const int epoch : epoch_ticks()) {
      const double tick = x + x_of(epoch);
      svg_.line(tick, y + panel_height_, tick, y + panel_height_ + 4, stroke(quiet_color));
      if (row + 1 == rows_) {
        svg_.text(tick, y + panel_height_ + 17, std::to_string(epoch),
                  "font-size=\"11\" text-anchor=\"middle\" " + fill(quiet_color));
      }
    }
    svg_.line(x, y + panel_height_, x + panel_width_, y + panel_height_, stroke(quiet_color));
    draw_curve(x, y, comparison.without, without_color);
    draw_curve(x, y, comparison.with, with_color);
    svg_.text(x + panel_width_ / 2 - 8, y - 13, outcome(comparison.with),
              "font-size=\"12\" font-weight=\"600\" text-anchor=\"end\" " + fill(with_color));
    svg_.text(x + panel_width_ / 2 + 8, y - 13, outcome(comparison.without),
              "font-size=\"12\" font-weight=\"600\" " + fill(without_color));
  }

  void draw_curve(double x, double y, const RunResult& result, const std::string& color) {
    Svg::Points points;
    for (std::size_t i = 0; i < result.epochs.size(); ++i) {
      points.emplace_back(x + x_of(static_cast<double>(i) + 1), y + y_of(result.epochs[i].test_accuracy));
    }
    svg_.polyline(points, "stroke-width=\"2\" stroke-linejoin=\"round\" stroke-linecap=\"round\" " + stroke(color));
    const auto [end_x, end_y] = points.back();
    if (result.diverged) {
      const std::string style = "stroke-width=\"2\" stroke-linecap=\"round\" " + stroke(color);
      svg_.line(end_x - 4, end_y - 4, end_x + 4, end_y + 4, style);
      svg_.line(end_x - 4, end_y + 4, end_x + 4, end_y - 4, style);
    } else {
      svg_.circle(end_x, end_y, 3.2, fill(color));
    }
  }

  static std::string outcome(const RunResult& result) {
    return result.diverged ? "diverged" : percent(result.final_accuracy());
  }

  // About four, evenly apart, at round numbers; the first epoch too.
  std::vector<int> epoch_ticks() const {
    int step = 1;
    for (const int factor : {2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000}) {
      if (epochs_ > 5 * step) step = factor;
    }
    std::vector<int> ticks = {1};
    for (int epoch = step == 1 ? 2 : step; epoch <= epochs_; epoch += step) ticks.push_back(epoch);
    return ticks;
  }

  static constexpr double panel_width_ = 196;
  static constexpr double panel_height_ = 130;
  static constexpr double panel_step_x_ = 222;
  static constexpr double panel_step_y_ = 172;
  static constexpr double left_ = 88;
  static constexpr double right_ = 30;
  static constexpr double top_ = 194;
  static constexpr double bottom_ = 58;

  int epochs_;
  std::size_t columns_;
  std::size_t rows_;
  double width_;
  double height_;
  Svg svg_;
};

}  // namespace detail

// The image as the text of an SVG file; comparisons as run_experiment returns them.
inline std::string learning_curves(const Dataset& data, const TrainingOptions& options,
                                   const std::vector<double>& learning_rates, const std::vector<double>& weight_scales,
                                   const std::vector<Comparison>& comparisons) {
  return detail::LearningCurves(data, options, learning_rates, weight_scales, comparisons).str();
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_LEARNING_CURVES_HPP
