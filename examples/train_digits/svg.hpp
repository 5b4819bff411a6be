// A small writer of SVG images. Lengths are in pixels, y points down.

#ifndef TRAIN_DIGITS_SVG_HPP
#define TRAIN_DIGITS_SVG_HPP

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "format.hpp"

namespace train_digits {

class Svg {
 public:
  using Points = std::vector<std::pair<double, double>>;

  Svg(double width, double height, const std::string& description) {
    const std::string size = fixed(width, 0) + "\" height=\"" + fixed(height, 0);
    text_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size + "\" viewBox=\"0 0 " + fixed(width, 0) + " " +
            fixed(height, 0) +
            "\" role=\"img\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n<title>" +
            escaped(description) + "</title>\n";
  }

  // The attributes are SVG's own, such as: fill="#fff" stroke="none".
  void rectangle(double x, double y, double width, double height, const std::string& attributes) {
    text_ += "<rect" + number("x", x) + number("y", y) + number("width", width) + number("height", height) + " " +
             attributes + "/>\n";
  }

  void line(double x1, double y1, double x2, double y2, const std::string& attributes) {
    text_ +=
        "<line" + number("x1", x1) + number("y1", y1) + number("x2", x2) + number("y2", y2) + " " + attributes + "/>\n";
  }

  void circle(double x, double y, double radius, const std::string& attributes) {
    text_ += "<circle" + number("cx", x) + number("cy", y) + number("r", radius) + " " + attributes + "/>\n";
  }

  void polyline(const Points& points, const std::string& attributes) {
    text_ += "<polyline fill=\"none\" points=\"";
    for (const auto& [x, y] : points) text_ += fixed(x, 1) + "," + fixed(y, 1) + " ";
    text_ += "\" " + attributes + "/>\n";
  }

  void text(double x, double y, const std::string& content, const std::string& attributes) {
    text_ += "<text" + number("x", x) + number("y", y) + " " + attributes + ">" + escaped(content) + "</text>\n";
  }

  // Squares of one colour, each given by its upper left corner.
  void squares(const Points& corners, double side, const std::string& attributes) {
    if (corners.empty()) return;
    const std::string length = fixed(side, 2);
    text_ += "<path " + attributes + " d=\"";
    for (const auto& [x, y] : corners) {
      text_ += "M" + fixed(x, 2) + " " + fixed(y, 2) + "h" + length + "v" + length + "h-" + length + "z";
    }
    text_ += "\"/>\n";
  }

  // The image so far, as the whole file's text.
  std::string str() const { return text_ + "</svg>\n"; }

 private:
  static std::string number(const std::string& name, double value) {
    return " " + name + "=\"" + fixed(value, 1) + "\"";
  }

  static std::string escaped(const std::string& content) {
    std::string result;
    for (const char c : content) {
      if (c == '&') {
        result += "&amp;";
      } else if (c == '<') {
        result += "&lt;";
      } else {
        result += c;
      }
    }
    return result;
  }

  std::string text_;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_SVG_HPP
