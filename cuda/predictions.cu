#include <limits>

#include "device/numeric.h"
#include "device/warp_rows.h"
#include "kernels/predictions.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Integers, whose sums are the same in every order.
__device__ void add_one(std::int64_t* to) { atomicAdd(reinterpret_cast<unsigned long long*>(to), 1ull); }

// A warp has a row: it finds how many scores stand above the label's, and the first of the highest.
template <class T, class L>
__global__ void count_predictions_kernel(Index rows, int classes, const T* logits, Index pitch,
                                         const std::int64_t* labels, const L* loss, std::int64_t* counts,
                                         double* loss_sum) {
  using S = Accumulator<T>;
  if (blockIdx.x == 0 && threadIdx.x == 0) *loss_sum += static_cast<double>(*loss) * static_cast<double>(rows);
  const Index row = row_of_warp();
  if (row >= rows) return;
  const std::int64_t label = labels[row];
  if (label < 0 || label >= classes) return;
  const T* const score = logits + row * pitch;
  const S own = widen(score[label]);
  int above = 0, best = classes;
  S highest = -std::numeric_limits<S>::infinity();
  const int lane = lane_of_thread();
  for (int c = lane; c < classes; c += kLanes) {
    const S value = widen(score[c]);
    above += !(value < own || (value == own && c >= label));  // a NaN may be anything
    if (value > highest || (value == highest && c < best)) {
      highest = value;
      best = c;
    }
  }
  above = warp_reduce(above, Plus{});
  const S highest_of_all = warp_reduce(highest, Larger{});
  best = warp_reduce(highest == highest_of_all ? best : classes, Smaller{});
  if (lane != 0) return;
  if (best == classes) best = 0;  // all are NaN
  add_one(counts + kExamples);
  if (above == 0) add_one(counts + kTop1);
  if (above < 5) add_one(counts + kTop5);
  add_one(counts + kConfusion + label * classes + best);
}

}  // namespace

void count_predictions(Context& context, const Operand& logits, const Operand& labels, const Operand& loss,
                       const Operand& counts, const Operand& loss_sum) {
  const Index rows = logits.shape[0];
  dispatch_floating("count_predictions", logits.dtype, [&]<class T>(Type<T>) {
    const auto run = [&]<class L>(Type<L>) {
      launch(context, "count_predictions", a_warp_each(rows), count_predictions_kernel<T, L>, rows,
             static_cast<int>(logits.shape[1]), logits.as<T>(), logits.pitch, labels.as<std::int64_t>(), loss.as<L>(),
             counts.as<std::int64_t>(), loss_sum.as<double>());
    };
    if (loss.dtype == DType::f64)
      run(Type<double>{});
    else
      run(Type<float>{});
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
