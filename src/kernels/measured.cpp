#include "kernels/measured.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "graft/core/context.h"
#include "graft/core/version.h"

#include "core/choices.h"
#include "core/format.h"
#include "core/proc.h"
#include "kernels/conv2d.h"
#include "kernels/registry.h"

namespace graft {

void describe(std::string& call, const Operand& x, const Operand& written) {
  if (!x) return void(call += " -");
  fmt::format_to(std::back_inserter(call), " {} {}", x.dtype, x.shape);
  if (!x.contiguous()) fmt::format_to(std::back_inserter(call), " of {}", x.pitch);
  if (x.block != nullptr) call += " kept";
  if (x.data == written.data && &x != &written) call += " in place";
}

void describe(std::string& call, const Gradient& to, const Operand& written) {
  describe(call, to.to, written);
  if (to.accumulate) call += " added";
}

void describe(std::string& call, Activation activation, const Operand&) {
  call += ' ';
  call += name(activation);
}

// Sizes of images and channels stand in the operands' shapes.
void describe(std::string& call, const ConvGeometry& g, const Operand&) {
  fmt::format_to(std::back_inserter(call), " {}x{} stride {}x{} dilation {}x{} pad {},{},{},{} groups {}",
                 g.kernel_height, g.kernel_width, g.stride_height, g.stride_width, g.dilation_height, g.dilation_width,
                 g.pad_top, g.pad_left, g.pad_bottom, g.pad_right, g.groups);
}

StandIn::StandIn(const Operand& written)
    : memory_(
          Storage::allocate(static_cast<std::size_t>(written.shape.rows() * written.pitch) * size_of(written.dtype))) {
  std::fill_n(memory_->data(), memory_->bytes(), std::byte{0});
}

void StandIn::replace(const Operand& written, Operand& x) const {
  if (x.data != written.data) return;
  x.data = memory_->data();
  x.rounded = nullptr;
  x.block = nullptr;
}

namespace kernels {
namespace {

double seconds(const std::function<void()>& run) {
  const auto began = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// What the speed of kernels depends on. The name that a hypervisor gives may be no more than the maker's.
const std::string& machine() {
  thread_local std::pair<int, std::string> last;
  if (const int count = threads(); last.first != count) {
    static const std::string cpu = proc_field("/proc/cpuinfo", "model name");
    last = {count, fmt::format("{}, {}, {} threads, graft {}, oneDNN {}", cpu, vectorized_isa(), count, kVersion,
                               onednn_version())};
  }
  return last.second;
}

}  // namespace

bool library_is_faster(const std::string& call, const std::function<void()>& vectorized,
                       const std::function<void()>& library) {
  constexpr std::string_view kLibrary = "library", kVectorized = "vectorized";
  if (const auto known = choices().find(machine(), call)) return *known == kLibrary;
  vectorized();  // weights are packed, kernels compiled
  library();
  constexpr int kRounds = 7;
  double own = 1e30, other = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    own = std::min(own, seconds(vectorized));
    other = std::min(other, seconds(library));
  }
  return choices().keep(machine(), call, std::string(other < own ? kLibrary : kVectorized)) == kLibrary;
}

}  // namespace kernels
}  // namespace graft
