#include "device/channel_sums.h"
#include "device/sum.h"
#include "kernels/reduce.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

template <class T>
struct Element {
  const T* x;
  __device__ Accumulator<T> operator()(const std::array<Index, 1>& at) const { return widen(x[at[0]]); }
};

// The channels of a row, to be added up over all rows.
template <class T>
struct Channels {
  static constexpr int kRowsAtOnce = 4;

  const T* x;
  Index pitch;

  __host__ __device__ int slots() const { return 1; }
  __device__ int slot(int) const { return 0; }

  template <int N, class Sum>
  __device__ void add(Index row, int channel, Sum (&sums)[1][N]) const {
    const Vector<T, N> here = load<N>(x + row * pitch + channel);
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) sums[0][k] += widen(here[k]);
  }
};

}  // namespace

void sum_rows(Context& context, const Operand& x, Gradient y) {
  dispatch_weighted("sum_rows", x.dtype, y.to.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    const Index channels = x.shape.channels();
    with_vectors<T>(channels % kVector<T> == 0 && aligned<T>(x.data, x.pitch, kVector<T>),
                    [&]<int N>(std::integral_constant<int, N>) {
                      channel_sums<1, N, Accumulator<T>>(context, "sum_rows", x.shape.rows(), channels, 1, 1,
                                                         Channels<T>{x.as<T>(), x.pitch}, PutRows<W>(y));
                    });
  });
}

void sum_to(Context& context, const Operand& x, double scale, Gradient y) {
  dispatch_floating("sum", x.dtype, [&]<class T>(Type<T>) {
    unsigned reduced = 0;
    for (int axis = 0; axis < x.shape.rank(); ++axis) reduced |= y.to.shape[axis] == 1 ? 1u << axis : 0u;
    sum_terms<T>(context, "sum_to", SumAxes<1>({x}, reduced), Element<T>{x.as<T>()}, static_cast<Accumulator<T>>(scale),
                 y);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
