#include "device/numeric.h"
#include "device/window.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"

// A thread makes one vector of neighbouring channels of one result. Threads of a warp have neighbouring channels of a
// pixel, then those of the next pixel, so loads are coalesced and the clipping of a window is nearly always one for the
// warp. WindowSizes that overlap read the same pixels, which then come from the cache: from memory x is read once and y
// written once. Gradients are gathered too, each pixel's from the windows over it, so no two threads write the same
// element and sums have one order.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// The first of equals stays; a NaN wins and stays.
template <int N, class T, class P>
__global__ void max_pool_kernel(WindowSizes g, const T* x, Index x_pitch, T* y, Index y_pitch, P* positions,
                                Index positions_pitch) {
  const int vectors = g.channels / N;
  for_each_of_images(g.out_height * g.out_width * vectors, g.batch, [&](int image, int item) {
    const int channel = item % vectors * N, window = item / vectors;
    const T* from = x + g.pixel_offset(image, x_pitch) + channel;
    Vector<T, N> best{};
    Vector<P, N> at{};
    bool first = true;
    for_each_pixel_under(g, window / g.out_width, window % g.out_width, [&](int tap, int pixel) {
      const Vector<T, N> here = load<N>(from + pixel * x_pitch);
      for (int k = 0; k < N; ++k) {
        const Accumulator<T> value = widen(here[k]), most = widen(best[k]);
        if (first || (!(value <= most) && most == most)) {
          best[k] = here[k];
          at[k] = static_cast<P>(tap);
        }
      }
      first = false;
    });
    store(y + g.window_offset(image, y_pitch) + window * y_pitch + channel, best);
    if (positions != nullptr)
      store(positions + g.window_offset(image, positions_pitch) + window * positions_pitch + channel, at);
  });
}

template <int N, class T>
__global__ void average_pool_kernel(WindowSizes g, const T* x, Index x_pitch, T* y, Index y_pitch) {
  using Sum = Accumulator<T>;
  const int vectors = g.channels / N;
  for_each_of_images(g.out_height * g.out_width * vectors, g.batch, [&](int image, int item) {
    const int channel = item % vectors * N, window = item / vectors;
    const int row = window / g.out_width, column = window % g.out_width;
    const T* from = x + g.pixel_offset(image, x_pitch) + channel;
    Sum sums[N] = {};
    for_each_pixel_under(g, row, column, [&](int, int pixel) {
      const Vector<T, N> here = load<N>(from + pixel * x_pitch);
      for (int k = 0; k < N; ++k) sums[k] += widen(here[k]);
    });
    const Sum scale = Sum(1) / static_cast<Sum>(rows_inside(g, row).size() * columns_inside(g, column).size());
    for (int k = 0; k < N; ++k) sums[k] *= scale;
    put(y + g.window_offset(image, y_pitch) + window * y_pitch + channel, sums, false);
  });
}

// dx[pixel] (+)= sum over the windows that cover it of slope(tap, window, row, column)'s numbers, which are added to
// sums: Slope says what a window hands back.
template <int N, class T, class Slope>
__global__ void pool_backward_kernel(WindowSizes g, Slope slope, T* dx, Index dx_pitch, bool accumulate) {
  const int vectors = g.channels / N;
  for_each_of_images(g.height * g.width * vectors, g.batch, [&](int image, int item) {
    const int channel = item % vectors * N, pixel = item / vectors;
    Accumulator<T> sums[N] = {};
    for_each_window_over(g, pixel / g.width, pixel % g.width, [&](int tap, int row, int column) {
      slope.template add<N>(g, image, tap, row, column, channel, sums);
    });
    put(dx + g.pixel_offset(image, dx_pitch) + pixel * dx_pitch + channel, sums, accumulate);
  });
}

// All of dy, to the tap where the maximum was.
template <class T, class P>
struct ToMaximum {
  const T* dy;
  Index dy_pitch;
  const P* positions;
  Index positions_pitch;

  template <int N>
  __device__ void add(const WindowSizes& g, int image, int tap, int row, int column, int channel,
                      Accumulator<T> (&sums)[N]) const {
    const int window = row * g.out_width + column;
    const auto at = load<N>(positions + g.window_offset(image, positions_pitch) + window * positions_pitch + channel);
    const auto slope = load<N>(dy + g.window_offset(image, dy_pitch) + window * dy_pitch + channel);
    for (int k = 0; k < N; ++k) sums[k] += at[k] == static_cast<P>(tap) ? widen(slope[k]) : Accumulator<T>(0);
  }
};

// An equal share of dy to every pixel under the window.
template <class T>
struct ToAll {
  const T* dy;
  Index dy_pitch;

  template <int N>
  __device__ void add(const WindowSizes& g, int image, int, int row, int column, int channel,
                      Accumulator<T> (&sums)[N]) const {
    using Sum = Accumulator<T>;
    const Sum scale = Sum(1) / static_cast<Sum>(rows_inside(g, row).size() * columns_inside(g, column).size());
    const int window = row * g.out_width + column;
    const auto slope = load<N>(dy + g.window_offset(image, dy_pitch) + window * dy_pitch + channel);
    for (int k = 0; k < N; ++k) sums[k] += scale * widen(slope[k]);
  }
};

// Whether a thread may take 16 bytes of neighbouring channels of both.
template <class T>
bool fit(const Operand& a, const Operand& b) {
  constexpr int n = kVector<T>;
  return a.shape.channels() % n == 0 && aligned<T>(a.data, a.pitch, n) && aligned<T>(b.data, b.pitch, n);
}

template <int N, class T, class Slope>
void run_backward(Context& context, const char* name, const WindowSizes& g, const Slope& slope, Gradient dx) {
  launch(context, name, grid_of_images(Index{g.height} * g.width * (g.channels / N), g.batch),
         pool_backward_kernel<N, T, Slope>, g, slope, dx.to.as<T>(), dx.to.pitch, dx.accumulate);
}

}  // namespace

void max_pool_forward(Context& context, const WindowGeometry& geometry, const Operand& x, const Operand& y,
                      const Operand& positions) {
  const WindowSizes g(geometry);
  dispatch_floating("max_pool", x.dtype, [&]<class T>(Type<T>) {
    const auto run = [&]<int N, class P>(std::integral_constant<int, N>, Type<P>) {
      launch(context, "max_pool", grid_of_images(Index{g.out_height} * g.out_width * (g.channels / N), g.batch),
             max_pool_kernel<N, T, P>, g, x.as<T>(), x.pitch, y.as<T>(), y.pitch, positions.as<P>(), positions.pitch);
    };
    // Windows of more than a byte of positions have so many taps that nothing is gained by vectors of results.
    if (positions && positions.dtype != DType::u8) return run(std::integral_constant<int, 1>{}, Type<std::int32_t>{});
    const bool fits = fit<T>(x, y) && aligned<std::uint8_t>(positions.data, positions.pitch, kVector<T>);
    with_vectors<T>(fits, [&](auto width) { run(width, Type<std::uint8_t>{}); });
  });
}

void max_pool_backward(Context& context, const WindowGeometry& geometry, const Operand& positions, const Operand& dy,
                       Gradient dx) {
  const WindowSizes g(geometry);
  dispatch_floating("max_pool", dy.dtype, [&]<class T>(Type<T>) {
    const auto run = [&]<int N, class P>(std::integral_constant<int, N>, Type<P>) {
      const ToMaximum<T, P> slope{dy.as<T>(), dy.pitch, positions.as<P>(), positions.pitch};
      run_backward<N, T>(context, "max_pool_backward", g, slope, dx);
    };
    if (positions.dtype != DType::u8) return run(std::integral_constant<int, 1>{}, Type<std::int32_t>{});
    const bool fits = fit<T>(dy, dx.to) && aligned<std::uint8_t>(positions.data, positions.pitch, kVector<T>);
    with_vectors<T>(fits, [&](auto width) { run(width, Type<std::uint8_t>{}); });
  });
}

void average_pool_forward(Context& context, const WindowGeometry& geometry, const Operand& x, const Operand& y) {
  const WindowSizes g(geometry);
  if (g.kernel_height == g.height && g.kernel_width == g.width && g.out_height * g.out_width == 1 && g.pad_top == 0 &&
      g.pad_left == 0 && g.dilation_height * g.dilation_width == 1 && x.elements() > 0)
    // One window of all pixels has too few results to give a thread each.
    return sum_to(context, x, 1.0 / (static_cast<double>(g.height) * g.width), {y, false});
  dispatch_floating("average_pool", x.dtype, [&]<class T>(Type<T>) {
    with_vectors<T>(fit<T>(x, y), [&]<int N>(std::integral_constant<int, N>) {
      launch(context, "average_pool", grid_of_images(Index{g.out_height} * g.out_width * (g.channels / N), g.batch),
             average_pool_kernel<N, T>, g, x.as<T>(), x.pitch, y.as<T>(), y.pitch);
    });
  });
}

void average_pool_backward(Context& context, const WindowGeometry& geometry, const Operand& dy, Gradient dx) {
  const WindowSizes g(geometry);
  dispatch_floating("average_pool", dy.dtype, [&]<class T>(Type<T>) {
    with_vectors<T>(fit<T>(dy, dx.to), [&]<int N>(std::integral_constant<int, N>) {
      run_backward<N, T>(context, "average_pool_backward", g, ToAll<T>{dy.as<T>(), dy.pitch}, dx);
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
