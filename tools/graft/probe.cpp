#include "probe.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "graft/core/tensor.h"
#include "graft/ops/matmul.h"

namespace graft::tools {
namespace {

// The shortest of several runs, in seconds, after one to warm up.
double shortest(Device device, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRuns = 8;
  constexpr double kLongEnough = 0.1;
  work();
  synchronize(device);
  double best = 1e30, all = 0;
  for (int run = 0; run < kRuns && all < kLongEnough; ++run) {
    const auto start = Clock::now();
    work();
    synchronize(device);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    all += seconds;
  }
  return best;
}

}  // namespace

Reached probe(Device device, const std::vector<DType>& dtypes) {
  ContextScope scope;
  scope->engine = Engine::automatic;  // what the machine reaches, whoever computes
  const bool gpu = device.kind == Device::Kind::cuda;
  const Index bytes = Index{1} << (gpu ? 29 : 26);  // beyond the last cache
  Reached reached;
  const Tensor from = Tensor::zeros({bytes}, DType::u8, device);
  Tensor to = Tensor::zeros({bytes}, DType::u8, device);
  reached.copy = 2e-9 * static_cast<double>(bytes) / shortest(device, [&] { to.copy_from(from); });
  const Index n = gpu ? 8192 : 1024;
  for (const DType dtype : dtypes) {
    const Tensor a = Tensor::full({n, n}, 0.5, dtype, device);
    const double operations = 2 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
    reached.product[std::string(name(dtype))] = 1e-9 * operations / shortest(device, [&] { ops::matmul(a, a); });
  }
  return reached;
}

}  // namespace graft::tools
