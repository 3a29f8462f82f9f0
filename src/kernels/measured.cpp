#include "kernels/measured.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>

#include "graft/core/context.h"
#include "graft/core/version.h"

#include "core/choices.h"
#include "core/format.h"
#include "kernels/conv2d.h"
#include "kernels/registry.h"

namespace graft {

void describe(std::string& call, const Operand& x) {
  if (!x) return void(call += " -");
  fmt::format_to(std::back_inserter(call), " {} {}", x.dtype, x.shape);
  if (!x.contiguous()) fmt::format_to(std::back_inserter(call), " of {}", x.pitch);
  if (x.block != nullptr) call += " kept";
}

void describe(std::string& call, const Gradient& to) {
  describe(call, to.to);
  if (to.accumulate) call += " added";
}

void describe(std::string& call, Activation activation) {
  call += ' ';
  call += name(activation);
}

// Sizes of images and channels stand in the operands' shapes.
void describe(std::string& call, const ConvGeometry& g) {
  fmt::format_to(std::back_inserter(call), " {}x{} stride {}x{} dilation {}x{} pad {},{},{},{} groups {}",
                 g.kernel_height, g.kernel_width, g.stride_height, g.stride_width, g.dilation_height, g.dilation_width,
                 g.pad_top, g.pad_left, g.pad_bottom, g.pad_right, g.groups);
}

StandIn::StandIn(const Operand& x)
    : like_(x), memory_(Storage::allocate(static_cast<std::size_t>(x.shape.rows() * x.pitch) * size_of(x.dtype))) {
  std::fill_n(memory_->data(), memory_->bytes(), std::byte{0});
}

Operand StandIn::operand() const {
  Operand x = like_;
  x.data = memory_->data();
  x.rounded = nullptr;
  x.block = nullptr;
  return x;
}

namespace kernels {
namespace {

double seconds(const std::function<void()>& run) {
  const auto began = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name") && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  }
  return "a processor";
}

}  // namespace

bool library_is_faster(const std::string& call, const std::function<void()>& vectorized,
                       const std::function<void()>& library) {
  static const std::string cpu = processor();
  const std::string machine =
      fmt::format("{}, {} threads, graft {}, oneDNN {}", cpu, threads(), kVersion, onednn_version());
  constexpr std::string_view kLibrary = "library", kVectorized = "vectorized";
  if (const auto known = choices().find(machine, call)) return *known == kLibrary;
  vectorized();  // weights are packed, kernels compiled
  library();
  constexpr int kRounds = 7;
  double own = 1e30, other = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    own = std::min(own, seconds(vectorized));
    other = std::min(other, seconds(library));
  }
  choices().keep(machine, call, std::string(other < own ? kLibrary : kVectorized));
  return other < own;
}

}  // namespace kernels
}  // namespace graft
