#include "cases.hpp"

#include <cstddef>
#include <new>

namespace bench {

namespace {
constexpr std::align_val_t page{4096};
}

Buffer::Buffer(Index size)
    : data_(static_cast<float*>(::operator new(static_cast<std::size_t>(size) * sizeof(float), page))), size_(size) {}

Buffer::~Buffer() {
  if (owned_) ::operator delete(data_, page);
}

Problem::Problem(Shape s, Layout l) : shape(s), layout(l), x(s.size()), dy(s.size()), out(s.size()) {
  Random random;
  set_channels(random);
  const Index inner = layout == Layout::nchw ? shape.inner() : 1;
  for (Index i = 0; i < shape.size(); ++i) {
    const auto c = static_cast<std::size_t>(i / inner % shape.channels);
    x.data()[i] = running_mean[c] + running_var[c] * random.uniform();
    dy.data()[i] = random.uniform();
    out.data()[i] = 0;
  }
}

Problem::Problem(Shape s, Layout l, float* x_memory, float* dy_memory, float* out_memory)
    : shape(s), layout(l), x(x_memory, s.size()), dy(dy_memory, s.size()), out(out_memory, s.size()) {
  Random random;
  set_channels(random);
}

void Problem::set_channels(Random& random) {
  for (Index c = 0; c < shape.channels; ++c) {
    weight.push_back(1 + random.uniform() / 2);
    bias.push_back(random.uniform());
    running_mean.push_back(random.uniform());
    running_var.push_back(1 + random.uniform() / 2);
  }
}

std::vector<Case> all_cases() {
  const std::vector<Pass> all = {Pass::forward, Pass::infer, Pass::backward};
  std::vector<Case> cases;
  for (const Layout layout : {Layout::nchw, Layout::nhwc}) {
    for (const Shape& shape : std::vector<Shape>{{32, 64, 112, 112},
                                                 {32, 64, 56, 56},
                                                 {32, 256, 56, 56},
                                                 {32, 128, 28, 28},
                                                 {32, 512, 28, 28},
                                                 {32, 256, 14, 14},
                                                 {32, 1024, 14, 14},
                                                 {32, 512, 7, 7},
                                                 {32, 2048, 7, 7}})
      cases.push_back({"resnet50", shape, layout, all});
    for (const Shape& shape : std::vector<Shape>{{32, 16, 28, 28}, {32, 32, 14, 14}})
      cases.push_back({"cnn", shape, layout, all});
    cases.push_back({"tiny", {1, 64, 7, 7}, layout, all});
  }
  for (const Shape& shape : std::vector<Shape>{{64, 256, 0, 0}, {256, 1024, 0, 0}, {1024, 4096, 0, 0}})
    cases.push_back({"mlp", shape, Layout::nc, all});
  cases.push_back({"tiny", {1, 16, 0, 0}, Layout::nc, {Pass::infer}});  // trained on, it would have one value a channel
  cases.push_back({"tiny", {4, 16, 0, 0}, Layout::nc, all});
  return cases;
}

std::vector<Case> quick_cases() {
  const std::vector<Pass> all = {Pass::forward, Pass::infer, Pass::backward};
  return {{"cnn", {4, 32, 14, 14}, Layout::nchw, all},
          {"cnn", {4, 32, 14, 14}, Layout::nhwc, all},
          {"mlp", {64, 256, 0, 0}, Layout::nc, all},
          {"tiny", {1, 16, 0, 0}, Layout::nc, {Pass::infer}}};
}

std::string name(Pass pass) { return pass == Pass::forward ? "forward" : pass == Pass::infer ? "infer" : "backward"; }

std::string name(Layout layout) { return layout == Layout::nchw ? "NCHW" : layout == Layout::nhwc ? "NHWC" : "NC"; }

std::string name(const Shape& s) {
  const std::string nc = std::to_string(s.samples) + "x" + std::to_string(s.channels);
  return s.rank_2() ? nc : nc + "x" + std::to_string(s.height) + "x" + std::to_string(s.width);
}

std::string group_name(const Case& c, Pass pass, int threads) {
  return c.set + "/" + name(c.layout) + "/" + name(c.shape) + "/" + name(pass) + "/" + std::to_string(threads) + "/";
}

}  // namespace bench
