#include <algorithm>
#include <cmath>
#include <limits>

#include "graft/core/error.h"

#include "core/format.h"
#include "ladder.h"

namespace graft::ladder {
namespace {

// Half the distance between neighbours, relative.
double unit_roundoff(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : 0x1p-24; }

Tensors rounded(const Tensors& inputs, DType dtype) {
  Tensors result;
  for (const Tensor& input : inputs) result.push_back(input.to(dtype));
  return result;
}

}  // namespace

const char* Rung::obstacle(Device device, std::string_view architecture) const {
  if (!hopper || device.kind != Device::Kind::cuda) return nullptr;
  if (cuda == nullptr) return "this build has no code for sm_90a";
  return architecture == "sm_90" ? nullptr : "it needs a GPU of compute capability 9.0";
}

Tensors operands(const Rung& rung, const Tensors& inputs, Device device) {
  Tensors result;
  for (const Tensor& input : rounded(inputs, rung.dtype)) result.push_back(input.to(device));
  return result;
}

void run(const Rung& rung, const Tensors& inputs, const Tensor& to) {
  Context& context = Context::current();
  Run* const chosen = context.device.kind == Device::Kind::cuda ? rung.cuda : rung.emulated;
  graft::check(chosen != nullptr, "[ladder] this build has no device '{}'", context.device);
  const std::vector<Operand> in(inputs.begin(), inputs.end());
  chosen(context, in, to);
}

double check(const Rung& rung, const Problem& problem, Device device) {
  ContextScope scope;
  scope->engine = Engine::native;
  const Tensors wide = rounded(rounded(problem.inputs, rung.dtype), DType::f64);
  const Answer answer = problem.answer(wide);
  const Tensor result = Tensor::full(problem.result, std::numeric_limits<double>::quiet_NaN(), rung.dtype, device);
  scope->device = device;
  run(rung, operands(rung, problem.inputs, device), result);
  const Tensor got = result.to(Device{}).to(DType::f64);
  const double u = unit_roundoff(rung.dtype), sums = answer.length * unit_roundoff(DType::f32) + answer.factors * u;
  double worst = 0;
  for (Index i = 0; i < got.elements(); ++i) {
    const double is = got.data<double>()[i], wanted = answer.y.data<double>()[i];
    const double scale = answer.magnitude.data<double>()[i];
    const double bound = sums * scale + 4 * u * std::max(std::fabs(wanted), 1e-3 * scale) + 1e-30;
    const double error = std::fabs(is - wanted) / bound;
    graft::check(error <= 1, "[{}] {}: element {} is {}, expected {} within {}", rung.name, problem.text, i, is, wanted,
                 bound);
    worst = std::max(worst, error);
  }
  return worst;
}

// The two have the same multiprocessors; of their memory a copy reaches nine tenths of what it does on paper.
Roofline Roofline::of(std::string_view gpu) {
  constexpr std::string_view kH200 = "NVIDIA H200";
  const bool h200 = gpu.starts_with(kH200);
  return {.gpu = h200 ? kH200 : "NVIDIA H100",
          .f32_operations = 67e12,
          .bf16_operations = 800e12,
          .bytes = 0.9 * (h200 ? 4.8e12 : 3.35e12)};
}

double Roofline::seconds(const Problem& problem, DType dtype) const {
  const double operations = dtype == DType::bf16 ? bf16_operations : f32_operations;
  return std::max(problem.operations / operations, problem.elements * static_cast<double>(size_of(dtype)) / bytes);
}

Timing measure(const Rung& rung, const Problem& problem, Device device, Engine engine) {
  ContextScope scope;
  scope->engine = engine;
  scope->device = device;
  const Tensors in = operands(rung, problem.inputs, device);
  const Tensor to = Tensor::empty(problem.result, rung.dtype, device);
  const auto once = [&] {
    const Event before = Event::record(device, scope->stream);
    run(rung, in, to);
    return Event::record(device, scope->stream).milliseconds_since(before);
  };
  if (engine == Engine::library) {
    try {
      once();
    } catch (const Error& error) {  // a null in the kernel's table, or a call that the library does not take
      return {{}, error.what()};
    }
  }
  constexpr double kWarm = 50, kEnough = 300;  // milliseconds
  double spent = 0;
  for (int i = 0; i < 3 || (spent < kWarm && i < 50); ++i) spent += once();
  std::vector<double> times;
  for (spent = 0; times.size() < 5 || (spent < kEnough && times.size() < 101); spent += times.back())
    times.push_back(once());
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return {times[times.size() / 2], {}};
}

}  // namespace graft::ladder
