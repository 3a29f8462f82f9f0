#pragma once

#include "cpu/vectorized/tiles.h"

// What a batch norm does to a block of rows of channels. Seen by translation units with flags of their own, as tiles.h.
// T is float, or Half for tensors in bf16.
namespace graft::kernels::vectorized {

/// means[c] = mean over the rows of x[r, c], squares[c] = sum of (x[r, c] - mean)^2.
template <class T>
struct MomentRows {
  const T* x = nullptr;
  std::int64_t pitch = 0;
  std::int64_t rows = 0, channels = 0;
  float *means = nullptr, *squares = nullptr;
};
void sum_moments(const MomentRows<float>& block);
void sum_moments(const MomentRows<Half>& block);

/// y[r, c] = clamp((x[r, c] - mean[c]) scale[c] + shift[c] + residual[r, c]).
template <class T>
struct AffineRows {
  const T* x = nullptr;
  std::int64_t x_pitch = 0;
  const float *mean = nullptr, *scale = nullptr, *shift = nullptr;
  const T* residual = nullptr;  ///< may be absent, and y itself
  std::int64_t residual_pitch = 0;
  T* y = nullptr;
  std::int64_t y_pitch = 0;
  std::int64_t rows = 0, channels = 0;
  Clamp clamp = Clamp::none;
  bool streams = false;  ///< as of a ProductTile
};
void map_rows(const AffineRows<float>& block);
void map_rows(const AffineRows<Half>& block);

/// Rows of x and of dz, which is dy where `mask` leaves y = (x[r, c] - mean[c]) scale[c] + shift[c] as it is, rounded
/// to T, and 0 elsewhere.
template <class T>
struct MaskedRows {
  const T* x = nullptr;  ///< may be absent, without a mask
  std::int64_t x_pitch = 0;
  const T* dy = nullptr;
  std::int64_t dy_pitch = 0;
  const float *mean = nullptr, *scale = nullptr, *shift = nullptr;
  Clamp mask = Clamp::none;
};

/// slopes[c] = sum over the rows of dz[r, c], products[c] = sum of dz[r, c] (x[r, c] - mean[c]), if x is there.
template <class T>
struct SlopeRows {
  MaskedRows<T> from;
  std::int64_t rows = 0, channels = 0;
  float *slopes = nullptr, *products = nullptr;
};
void sum_slopes(const SlopeRows<float>& block);
void sum_slopes(const SlopeRows<Half>& block);

/// dx[r, c] (+)= scale[c] dz[r, c] + (x[r, c] - mean[c]) along[c] + constant[c].
template <class T>
struct GradientRows {
  MaskedRows<T> from;
  const float *along = nullptr, *constant = nullptr;
  T* dx = nullptr;  ///< may be dy
  std::int64_t dx_pitch = 0;
  std::int64_t rows = 0, channels = 0;
  bool accumulate = false;
  bool streams = false;  ///< as of a ProductTile
};
void map_gradient(const GradientRows<float>& block);
void map_gradient(const GradientRows<Half>& block);

}  // namespace graft::kernels::vectorized
