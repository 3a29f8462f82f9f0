#include "support/op_check.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <sstream>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/generator.h"

#include "core/dtype_dispatch.h"

namespace graft::test {
namespace {

using Tensors = std::vector<Tensor>;

std::vector<Spec> specs_of(const Tensors& tensors) {
  std::vector<Spec> specs;
  for (const Tensor& tensor : tensors) specs.push_back(tensor.spec());
  return specs;
}

std::vector<Operand> operands_of(const Tensors& tensors) { return {tensors.begin(), tensors.end()}; }

// Who computes, and where.
struct Place {
  Engine engine = Engine::native;
  Device device = {};
  bool tf32 = false;
};

Tensors moved_to(Device device, const Tensors& tensors) {
  Tensors result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.defined() ? tensor.to(device) : tensor);
  return result;
}

// Forward gets copies, because it may update its inputs (moving statistics), and the same random state each time.
// Everything goes in and comes back on the CPU.
Tensors run_forward(const Op& op, const Tensors& inputs, Place place = {}) {
  ContextScope scope;
  scope->engine = place.engine;
  scope->device = place.device;
  scope->allow_tf32 = place.tf32;
  scope->generator = {.seed = 17};
  Tensors copies, outputs;
  for (const Tensor& input : moved_to(place.device, inputs)) copies.push_back(input.clone());
  for (const Spec& spec : op.infer(specs_of(inputs))) {
    const bool view = outputs.empty() && op.is_view();
    outputs.push_back(view ? copies[0].reshaped(spec.shape) : Tensor::empty(spec.shape, spec.dtype, place.device));
    if (!view && is_floating(spec.dtype)) outputs.back().fill(std::numeric_limits<double>::quiet_NaN());
  }
  op.forward(Context::current(), operands_of(copies), operands_of(outputs));
  return moved_to({}, outputs);
}

// The gradients of the inputs in `wanted`, added to `base` where it is defined; undefined for the others.
Tensors run_backward(const Op& op, const Tensors& cpu_inputs, const Tensors& cpu_outputs, const Tensors& cpu_dy,
                     Slots wanted, const Tensors& base = {}, Place place = {}) {
  ContextScope scope;
  scope->engine = place.engine;
  scope->device = place.device;
  scope->allow_tf32 = place.tf32;
  const Tensors inputs = moved_to(place.device, cpu_inputs), outputs = moved_to(place.device, cpu_outputs),
                dy = moved_to(place.device, cpu_dy);
  const Saves saves = op.saves(wanted);
  std::vector<Operand> saved_inputs = operands_of(inputs), saved_outputs = operands_of(outputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!saves.inputs.has(static_cast<int>(i))) saved_inputs[i].data = nullptr;
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!saves.outputs.has(static_cast<int>(i))) saved_outputs[i].data = nullptr;
  }
  Tensors gradients(inputs.size());
  std::vector<Gradient> dx(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!wanted.has(static_cast<int>(i))) continue;
    const bool accumulate = !base.empty();
    gradients[i] = accumulate ? base[i].clone().to(place.device)
                              : Tensor::full(inputs[i].shape(), std::numeric_limits<double>::quiet_NaN(),
                                             inputs[i].dtype(), place.device);
    dx[i] = {gradients[i], accumulate};
  }
  op.backward(Context::current(), {saved_inputs, saved_outputs}, operands_of(dy), dx);
  return moved_to({}, gradients);
}

Tensors seeds_for(const Op& op, const Tensors& outputs, DType dtype) {
  Tensors dy;
  for (int i = 0; i < op.results(); ++i) {
    const Tensor& y = outputs[static_cast<std::size_t>(i)];
    dy.push_back(
        random_normal(y.shape(), 1000 + static_cast<std::uint64_t>(i)).to(dtype == DType::f64 ? y.dtype() : dtype));
  }
  return dy;
}

double weighted_sum(const Tensors& outputs, const Tensors& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Tensor y = outputs[i].to(DType::f64), w = weights[i].to(DType::f64);
    sum = std::inner_product(y.data<double>(), y.data<double>() + y.elements(), w.data<double>(), sum);
  }
  return sum;
}

std::vector<double> doubles(const Tensor& tensor) {
  const Tensor wide = tensor.to(DType::f64);
  return {wide.data<double>(), wide.data<double>() + wide.elements()};
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) {
    if (!(std::fabs(v) <= most)) most = std::fabs(v);  // so that a NaN is the largest of all
  }
  return most;
}

bool differentiable(const OpCase& c, std::size_t i) {
  return is_floating(c.inputs[i].dtype()) && !c.constant.has(static_cast<int>(i));
}

Slots all_wanted(const OpCase& c) {
  Slots wanted;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (differentiable(c, i)) wanted.add(static_cast<int>(i));
  }
  return wanted;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::fabs(got[i] - want[i]) <= tolerance)) {
      ADD_FAILURE() << what << ": element " << i << " is " << got[i] << ", expected " << want[i] << " within "
                    << tolerance;
      return;
    }
  }
}

void check_against_differences(const OpCase& c, std::size_t input, const Tensor& gradient, const Tensors& dy) {
  constexpr Index kProbes = 60;
  const Index count = c.inputs[input].elements();
  const std::vector<double> analytic = doubles(gradient);
  const double scale = std::max(1.0, largest(analytic));
  for (Index probe = 0; probe < std::min(count, kProbes); ++probe) {
    const Index at =
        count <= kProbes ? probe : Generator{.seed = 5, .offset = static_cast<std::uint64_t>(probe)}.below(count);
    Tensors moved = c.inputs;
    moved[input] = c.inputs[input].clone();
    double* element = moved[input].mutable_data<double>() + at;
    const double x = *element;
    const double step = 1e-5 * std::max(1.0, std::fabs(x));
    *element = x + step;
    const double above = weighted_sum(run_forward(*c.op, moved), dy);
    *element = x - step;
    const double below = weighted_sum(run_forward(*c.op, moved), dy);
    const double numeric = (above - below) / (2 * step);
    EXPECT_NEAR(analytic[static_cast<std::size_t>(at)], numeric, 2e-7 * scale)
        << "gradient of input " << input << ", element " << at;
    if (::testing::Test::HasFailure()) return;
  }
}

// What rounding to a type costs, relative: half the distance between neighbours.
double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0x1p-53;
  }
}

Tensors absolute(const Tensors& tensors) {
  Tensors result;
  for (const Tensor& tensor : tensors) {
    Tensor copy = tensor.clone();
    if (copy.dtype() == DType::f64) {
      double* values = copy.mutable_data<double>();
      std::transform(values, values + copy.elements(), values, [](double v) { return std::fabs(v); });
    }
    result.push_back(copy);
  }
  return result;
}

// |got - want| <= rounding of the sums + rounding of the result, element by element where the magnitudes are known.
// With 10 bits of fraction each of two factors is off by 2^-11 at most, so a product by 2 2^-11 + 2^-22.
void expect_within_rounding(const OpCase& c, DType dtype, bool tf32, const Tensor& got, const Tensor& want,
                            const Tensor& magnitude, const std::string& what) {
  const std::vector<double> g = doubles(got), w = doubles(want);
  const double u = unit_roundoff(dtype);
  const double sums =
      (static_cast<double>(c.sum_length) + 8) * unit_roundoff(dtype == DType::f64 ? DType::f64 : DType::f32) +
      (tf32 ? 0x1p-10 + 0x1p-22 : 0);
  const double least = dtype == DType::f16 ? 0x1p-24 : 1e-300;  // f16 has numbers below 2^-14 only in such steps
  const double most = largest(w);
  const std::vector<double> m = magnitude.defined() ? doubles(magnitude) : std::vector<double>();
  ASSERT_EQ(g.size(), w.size()) << what;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double scale = m.empty() ? most : m[i];
    const double bound = m.empty() ? (8 * u + 8 * sums) * scale + least
                                   : sums * scale + 4 * u * std::max(std::fabs(w[i]), 1e-3 * scale) + least;
    if (!(std::fabs(g[i] - w[i]) <= bound)) {
      ADD_FAILURE() << what << ": element " << i << " is " << g[i] << ", expected " << w[i] << " within " << bound;
      return;
    }
  }
}

// A null in a kernel table, or a call that a library does not take: library_kernels.txt says what it computes.
bool is_gap(Place place, const std::string& message) {
  return message.find(fmt::format("engine '{}' has no such kernel", name(place.engine))) != std::string::npos ||
         (place.engine == Engine::library && message.find("engine 'library'") != std::string::npos) ||
         (place.device.kind != Device::Kind::cpu &&
          message.find("engine 'native' has no such kernel") != std::string::npos);
}

void check_engine(const OpCase& c, Place place, DType dtype) {
  const std::string label =
      fmt::format("{}, engine {}, {}", place.device.to_string(), name(place.engine), place.tf32 ? "tf32" : name(dtype));
  Tensors rounded, wide;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const bool floating = is_floating(c.inputs[i].dtype());
    // An exact input holds rounded values too: the op may round a weight to the type of the activations.
    const Tensor value = floating ? c.inputs[i].to(dtype) : c.inputs[i];
    rounded.push_back(floating && c.exact.has(static_cast<int>(i)) ? value.to(exact(dtype)) : value);
    wide.push_back(floating ? rounded.back().to(DType::f64) : rounded.back());
  }
  Tensors outputs;
  try {
    outputs = run_forward(*c.op, rounded, place);
  } catch (const Error& error) {
    if (!is_gap(place, error.what())) ADD_FAILURE() << label << ": " << error.what();
    return;
  }
  const Tensors reference = run_forward(*c.op, wide);
  const Tensors magnitude = c.sum_of_products ? run_forward(*c.op, absolute(wide)) : Tensors(reference.size());
  for (int i = 0; i < c.op->results(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    expect_within_rounding(c, dtype, place.tf32, outputs[k], reference[k], magnitude[k],
                           label + ", result " + std::to_string(i));
  }
  const Slots wanted = all_wanted(c);
  if (!wanted.any()) return;

  Tensors dy = seeds_for(*c.op, outputs, outputs[0].dtype()), wide_dy;
  for (const Tensor& seed : dy) wide_dy.push_back(seed.to(DType::f64));
  // The reference backward reads what the rounded forward saved, so that an activation's kink falls on the same side.
  Tensors wide_outputs;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    wide_outputs.push_back(is_floating(outputs[i].dtype()) && reference[i].dtype() == DType::f64
                               ? outputs[i].to(DType::f64)
                               : reference[i]);
  }
  const Tensors want = run_backward(*c.op, wide, wide_outputs, wide_dy, wanted);
  const Tensors sums = c.sum_of_products
                           ? run_backward(*c.op, absolute(wide), absolute(wide_outputs), absolute(wide_dy), wanted)
                           : Tensors(want.size());
  Tensors got;
  try {
    got = run_backward(*c.op, rounded, outputs, dy, wanted, {}, place);
  } catch (const Error& error) {
    if (!is_gap(place, error.what())) ADD_FAILURE() << label << ", backward: " << error.what();
    return;
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i].defined())
      expect_within_rounding(c, dtype, place.tf32, got[i], want[i], sums[i],
                             label + ", gradient of input " + std::to_string(i));
  }
  if (::testing::Test::HasFailure()) return;
  Tensors base;  // what an engine adds to, it must add to in the same way
  for (std::size_t i = 0; i < rounded.size(); ++i)
    base.push_back(is_floating(rounded[i].dtype()) ? random_normal(rounded[i].shape(), 77 + i).to(rounded[i].dtype())
                                                   : rounded[i]);
  const Tensors added = run_backward(*c.op, rounded, outputs, dy, wanted, base, place);
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!got[i].defined()) continue;
    std::vector<double> sum = doubles(got[i]);
    const std::vector<double> start = doubles(base[i]);
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += start[k];
    expect_close(doubles(added[i]), sum, 8 * unit_roundoff(got[i].dtype()) * std::max(1.0, largest(sum)),
                 label + ", accumulated gradient of input " + std::to_string(i));
  }
}

// Under the address sanitizer an emulated kernel takes ten times as long, so that large cases are left to other builds.
bool is_for_emulated(const OpCase& c) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr double kMostOperations = 1e5;
  const std::vector<Spec> inputs = specs_of(c.inputs);
  return c.op->operations(inputs, c.op->infer(inputs)) <= kMostOperations;
#else
  static_cast<void>(c);
  return true;
#endif
}

bool wants_library() {
  const char* text = std::getenv("GRAFT_TEST_LIBRARY");
  return text == nullptr || std::string_view(text) != "0";
}

}  // namespace

std::vector<Device> devices() {
  std::vector<Device> found;
  if (const char* named = std::getenv("GRAFT_TEST_DEVICES")) {
    std::istringstream names(named);
    for (std::string name; std::getline(names, name, ',');) {
      found.push_back(Device::parse(name));
      Tensor::empty({1}, DType::f32, found.back());  // throws where there is no such device
    }
    return found;
  }
  for (const Device device : {Device{Device::Kind::cuda, 0}, Device{Device::Kind::emulated, 0}}) {
    try {
      Tensor::empty({1}, DType::f32, device);
      found.push_back(device);
    } catch (const Error&) {  // not built, or not on this machine
    }
  }
  return found;
}

Tensor random_normal(const Shape& shape, std::uint64_t seed, double scale, double shift) {
  Tensor tensor = Tensor::empty(shape, DType::f64);
  Generator generator{.seed = seed};
  for (Index i = 0; i < tensor.elements(); ++i) tensor.mutable_data<double>()[i] = shift + scale * generator.normal();
  return tensor;
}

Tensor distinct(const Shape& shape, std::uint64_t seed, double step) {
  Tensor tensor = Tensor::empty(shape, DType::f64);
  const Index count = tensor.elements();
  std::vector<Index> ranks(static_cast<std::size_t>(count));
  std::iota(ranks.begin(), ranks.end(), Index{0});
  Generator generator{.seed = seed};
  for (Index i = count - 1; i > 0; --i)
    std::swap(ranks[static_cast<std::size_t>(i)], ranks[static_cast<std::size_t>(generator.below(i + 1))]);
  const Index middle = count / 2;
  for (Index i = 0; i < count; ++i) {
    tensor.mutable_data<double>()[i] = (static_cast<double>(ranks[static_cast<std::size_t>(i)] - middle) + 0.5) * step;
  }
  return tensor;
}

void check_gradients(const OpCase& c) {
  const Tensors outputs = run_forward(*c.op, c.inputs);
  for (const Tensor& y : outputs) {
    ASSERT_TRUE(!is_floating(y.dtype()) || std::isfinite(largest(doubles(y)))) << "an output was not written";
  }
  const Slots all = all_wanted(c);
  if (!all.any()) return;
  const Tensors dy = seeds_for(*c.op, outputs, DType::f64);
  const Tensors together = run_backward(*c.op, c.inputs, outputs, dy, all);
  Tensors base;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    base.push_back(differentiable(c, i) ? random_normal(c.inputs[i].shape(), 77 + i).to(c.inputs[i].dtype())
                                        : c.inputs[i]);
  }
  const Tensors added = run_backward(*c.op, c.inputs, outputs, dy, all, base);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (!differentiable(c, i)) continue;
    check_against_differences(c, i, together[i], dy);
    const std::vector<double> want = doubles(together[i]);
    const double tolerance = 1e-12 * std::max(1.0, largest(want));
    std::vector<double> difference = doubles(added[i]);
    const std::vector<double> start = doubles(base[i]);
    for (std::size_t k = 0; k < difference.size(); ++k) difference[k] -= start[k];
    expect_close(difference, want, tolerance, fmt::format("accumulated gradient of input {}", i));
    const Tensors alone = run_backward(*c.op, c.inputs, outputs, dy, Slots{static_cast<int>(i)});
    expect_close(doubles(alone[i]), want, tolerance, fmt::format("gradient of input {} by itself", i));
  }
}

void check_engines(const OpCase& c) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    for (const Engine engine : {Engine::reference, Engine::native, Engine::automatic, Engine::library})
      check_engine(c, {engine, {}}, dtype);
    for (const Device device : devices()) {
      if (device.kind == Device::Kind::emulated && !is_for_emulated(c)) continue;
      check_engine(c, {Engine::native, device}, dtype);
      if (c.tf32 && dtype == DType::f32) check_engine(c, {Engine::native, device, true}, dtype);
    }
    if (!devices().empty() && devices().front().kind == Device::Kind::cuda && wants_library())
      check_engine(c, {Engine::library, devices().front()}, dtype);
  }
}

void PrintTo(const OpCase& c, std::ostream* to) {
  *to << fmt::format("{} ({}): {}", c.op->name(), c.op->attributes(), c.what);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OpTable);  // some programs want the rest of this file only

TEST_P(OpTable, GradientsAndEngines) {
  check_gradients(GetParam());
  check_engines(GetParam());
}

}  // namespace graft::test
