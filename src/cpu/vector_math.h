#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cpu/vector_ops.h"
#include "kernels/activation_math.h"

// Functions of f32 numbers without a branch or a call, so that loops over them become vector instructions. They are as
// close as the library's to a few units in the last place, unless they say otherwise, and of arguments beyond the range
// of f32 they give its ends.
namespace graft::cpu {

/// exp(x) = 2^n exp(r), n the nearest integer to x / ln 2 and |r| <= ln 2 / 2. The polynomial is that of Cephes's expf
/// (Moshier, 1992).
GRAFT_INLINE inline float exponential(float x) {
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.3f ? 88.3f : x;
  constexpr float kShift = 12582912.f;  // 1.5 2^23: adding it leaves the nearest integer in the last bits
  const float shifted = x * 1.44269504f + kShift, n = shifted - kShift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const std::int32_t power = (std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kShift) + 127) << 23;
  return p * std::bit_cast<float>(power);
}

GRAFT_INLINE inline float sigmoid(float x) { return 1.f / (1.f + exponential(-x)); }

/// The distribution function of the normal distribution, (1 + erf(x / sqrt 2)) / 2, within 2e-7. The rational function
/// for erf is Eigen's.
GRAFT_INLINE inline float normal_distribution(float x) {
  float z = x * 0.70710678f;
  z = z < -4.f ? -4.f : z;
  z = z > 4.f ? 4.f : z;
  const float s = z * z;
  float p = -2.72614225801306e-10f;
  p = p * s + 2.77068142495902e-08f;
  p = p * s - 2.10102402082508e-06f;
  p = p * s - 5.69250639462346e-05f;
  p = p * s - 7.34990630326855e-04f;
  p = p * s - 2.95459980854025e-03f;
  p = p * s - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * s - 2.13374055278905e-04f;
  q = q * s - 1.68282697438203e-03f;
  q = q * s - 7.37332916720468e-03f;
  q = q * s - 1.42647390514189e-02f;
  return 0.5f + 0.5f * (z * p / q);
}

/// f(x) as kernels::activate has it.
template <Activation kFunction>
GRAFT_INLINE inline float activate(float x) {
  if constexpr (kFunction == Activation::sigmoid) return sigmoid(x);
  if constexpr (kFunction == Activation::silu) return x * sigmoid(x);
  if constexpr (kFunction == Activation::gelu) return x * normal_distribution(x);
  if constexpr (kFunction == Activation::gelu_tanh)  // (1 + tanh u) / 2 = sigmoid(2 u)
    return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
  return kernels::activate(kFunction, x);
}

/// f'(x) as kernels::derivative has it.
template <Activation kFunction>
GRAFT_INLINE inline float derivative(float saved) {
  if constexpr (kFunction == Activation::silu) {
    const float s = sigmoid(saved);
    return s * (1.f + saved * (1.f - s));
  }
  if constexpr (kFunction == Activation::gelu)
    return normal_distribution(saved) + saved * 0.39894228f * exponential(-0.5f * saved * saved);
  if constexpr (kFunction == Activation::gelu_tanh) {
    const float s = sigmoid(1.5957691216f * (saved + 0.044715f * saved * saved * saved));
    return s + saved * s * (1.f - s) * 1.5957691216f * (1.f + 0.134145f * saved * saved);
  }
  return kernels::derivative(kFunction, saved);
}

}  // namespace graft::cpu
