#include "graft/data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/format.h"

namespace graft::data {
namespace {

// One axis of a resize: `source` pixels become `full` pixels, of which only `first .. first + count` are wanted (all of
// them unless the image is cropped).
struct Axis {
  Index source = 0;
  Index full = 0;
  Index first = 0;
  Index count = 0;

  bool same() const { return full == source && count == full; }
};

// Output pixel i is the sum over t of weights[i * stride + t] * source[first[i] + t], t < taps[i].
template <class Weight>
struct Filter {
  Index stride = 0;
  std::vector<Index> first, taps;
  std::vector<Weight> weights;
};

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

// Keys' cubic with a = -0.5, zero from 2 on.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// How PIL accumulates: bytes in fixed point with 22 fractional bits (8 bits of pixel, 2 of headroom for the lobes),
// floats in double.
constexpr int kFractionBits = 32 - 8 - 2;

template <class T>
struct Arithmetic;

template <>
struct Arithmetic<std::uint8_t> {
  using Weight = std::int32_t;
  static constexpr Weight kStart = 1 << (kFractionBits - 1);
  static Weight quantize(double w) { return static_cast<Weight>((w < 0 ? -0.5 : 0.5) + w * (1 << kFractionBits)); }
  static std::uint8_t finish(Weight sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }
};

template <>
struct Arithmetic<float> {
  using Weight = double;
  static constexpr Weight kStart = 0;
  static Weight quantize(double w) { return w; }
  static float finish(Weight sum) { return static_cast<float>(sum); }
};

// PIL's precompute_coeffs: the filter is stretched by the reduction, so that it covers every source pixel, and
// normalised where the border cuts it.
template <class T>
Filter<typename Arithmetic<T>::Weight> make_filter(const Axis& axis, Resampling resampling) {
  const auto shape = resampling == Resampling::bicubic ? cubic : triangle;
  const double scale = static_cast<double>(axis.source) / static_cast<double>(axis.full);
  const double stretch = std::max(scale, 1.0);
  const double support = (resampling == Resampling::bicubic ? 2.0 : 1.0) * stretch;
  Filter<typename Arithmetic<T>::Weight> filter;
  filter.stride = std::min(static_cast<Index>(std::ceil(support)) * 2 + 1, axis.source);
  std::vector<double> exact(static_cast<std::size_t>(filter.stride));
  for (Index i = 0; i < axis.count; ++i) {
    const double center = (static_cast<double>(axis.first + i) + 0.5) * scale;
    const double begin = center - support + 0.5, end = center + support + 0.5;
    const Index first = std::max(static_cast<Index>(begin), Index{0});
    const Index taps = std::min(static_cast<Index>(end), axis.source) - first;
    double sum = 0;
    for (Index t = 0; t < taps; ++t) {
      const double w = shape((static_cast<double>(first + t) - center + 0.5) * (1 / stretch));
      exact[static_cast<std::size_t>(t)] = w;
      sum += w;
    }
    filter.first.push_back(first);
    filter.taps.push_back(taps);
    for (Index t = 0; t < filter.stride; ++t) {
      const double w = t < taps ? exact[static_cast<std::size_t>(t)] : 0;
      filter.weights.push_back(Arithmetic<T>::quantize(sum != 0 ? w / sum : w));
    }
  }
  return filter;
}

// Calls body with the number of channels as a constant where it is the usual one, so that the loops over it unroll.
template <class Body>
void with_channels(Index channels, Body&& body) {
  if (channels == 3)
    body(std::integral_constant<Index, 3>{});
  else
    body(channels);
}

template <class T>
void filter_row(const T* row, const Filter<typename Arithmetic<T>::Weight>& filter, Index channels, T* out) {
  using A = Arithmetic<T>;
  const Index count = static_cast<Index>(filter.first.size());
  with_channels(channels, [&](auto c_count) {
    for (Index i = 0; i < count; ++i) {
      const auto* weights = filter.weights.data() + i * filter.stride;
      const T* pixels = row + filter.first[static_cast<std::size_t>(i)] * c_count;
      const Index taps = filter.taps[static_cast<std::size_t>(i)];
      if constexpr (!std::is_same_v<decltype(c_count), Index>) {
        auto s0 = A::kStart, s1 = A::kStart, s2 = A::kStart;
        for (Index t = 0; t < taps; ++t, pixels += 3) {
          s0 += pixels[0] * weights[t];
          s1 += pixels[1] * weights[t];
          s2 += pixels[2] * weights[t];
        }
        out[3 * i] = A::finish(s0);
        out[3 * i + 1] = A::finish(s1);
        out[3 * i + 2] = A::finish(s2);
      } else {
        for (Index c = 0; c < c_count; ++c) {
          auto sum = A::kStart;
          for (Index t = 0; t < taps; ++t) sum += pixels[t * c_count + c] * weights[t];
          out[i * c_count + c] = A::finish(sum);
        }
      }
    }
  });
}

// Columns first, rounded, then rows: the order decides the last bit. Only source rows that some output row needs are
// filtered.
template <class T>
Tensor convolve(const Tensor& image, const Axis& rows, const Axis& columns, Resampling resampling) {
  using A = Arithmetic<T>;
  const Index channels = image.shape()[2], width = columns.count * channels;
  const T* source = image.data<T>();
  const auto vertical = make_filter<T>(rows, resampling);
  const Index top = rows.same() ? 0 : vertical.first.front();
  const Index bottom = rows.same() ? rows.source : vertical.first.back() + vertical.taps.back();

  std::vector<T> filtered;
  const T* narrow = source + top * image.shape()[1] * channels;
  if (!columns.same()) {
    const auto horizontal = make_filter<T>(columns, resampling);
    filtered.resize(static_cast<std::size_t>((bottom - top) * width));
    for (Index y = top; y < bottom; ++y) {
      filter_row(source + y * image.shape()[1] * channels, horizontal, channels, filtered.data() + (y - top) * width);
    }
    narrow = filtered.data();
  }

  Tensor result = Tensor::empty({rows.count, columns.count, channels}, image.dtype());
  T* out = result.mutable_data<T>();
  if (rows.same()) {
    std::copy_n(narrow, result.elements(), out);
    return result;
  }
  std::vector<typename A::Weight> sums(static_cast<std::size_t>(width));
  for (Index y = 0; y < rows.count; ++y) {
    std::fill(sums.begin(), sums.end(), A::kStart);
    for (Index t = 0; t < vertical.taps[static_cast<std::size_t>(y)]; ++t) {
      const auto weight = vertical.weights[static_cast<std::size_t>(y * vertical.stride + t)];
      const T* row = narrow + (vertical.first[static_cast<std::size_t>(y)] + t - top) * width;
      for (Index i = 0; i < width; ++i) sums[static_cast<std::size_t>(i)] += row[i] * weight;
    }
    for (Index i = 0; i < width; ++i) out[y * width + i] = A::finish(sums[static_cast<std::size_t>(i)]);
  }
  return result;
}

// The position is summed up and not multiplied out, as in PIL: at exact halves the last bit of a double decides which
// pixel is nearest.
std::vector<Index> nearest_positions(const Axis& axis) {
  const double scale = static_cast<double>(axis.source) / static_cast<double>(axis.full);
  std::vector<Index> positions;
  double at = scale * 0.5;
  for (Index i = 0; i < axis.first + axis.count; ++i, at += scale) {
    if (i >= axis.first) positions.push_back(std::min(static_cast<Index>(at), axis.source - 1));
  }
  return positions;
}

Tensor pick_nearest(const Tensor& image, const Axis& rows, const Axis& columns) {
  const auto ys = nearest_positions(rows), xs = nearest_positions(columns);
  const std::size_t pixel = static_cast<std::size_t>(image.shape()[2]) * size_of(image.dtype());
  Tensor result = Tensor::empty({rows.count, columns.count, image.shape()[2]}, image.dtype());
  const auto* source = static_cast<const std::byte*>(image.raw());
  auto* out = static_cast<std::byte*>(result.raw());
  for (const Index y : ys) {
    for (const Index x : xs) {
      std::memcpy(out, source + static_cast<std::size_t>(y * image.shape()[1] + x) * pixel, pixel);
      out += pixel;
    }
  }
  return result;
}

// Between which two pixels an output pixel's centre lies, and how far along.
struct Between {
  Index low, high;
  float part;
};

std::vector<Between> bilinear_positions(const Axis& axis) {
  const float scale = static_cast<float>(axis.source) / static_cast<float>(axis.full);
  std::vector<Between> positions;
  for (Index i = axis.first; i < axis.first + axis.count; ++i) {
    const float at = (static_cast<float>(i) + 0.5f) * scale - 0.5f;
    const float low = std::floor(at);
    positions.push_back({.low = std::max(static_cast<Index>(low), Index{0}),
                         .high = std::min(static_cast<Index>(low) + 1, axis.source - 1),
                         .part = at - low});
  }
  return positions;
}

template <class T>
Tensor interpolate(const Tensor& image, const Axis& rows, const Axis& columns) {
  const Index channels = image.shape()[2], pitch = image.shape()[1] * channels;
  const auto ys = bilinear_positions(rows), xs = bilinear_positions(columns);
  Tensor result = Tensor::empty({rows.count, columns.count, channels});
  float* out = result.mutable_data<float>();
  for (const Between& y : ys) {
    const T* upper = image.data<T>() + y.low * pitch;
    const T* lower = image.data<T>() + y.high * pitch;
    with_channels(channels, [&](auto c_count) {
      for (const Between& x : xs) {
        for (Index c = 0; c < c_count; ++c) {
          const Index l = x.low * c_count + c, r = x.high * c_count + c;
          const float top =
              static_cast<float>(upper[l]) + (static_cast<float>(upper[r]) - static_cast<float>(upper[l])) * x.part;
          const float bottom =
              static_cast<float>(lower[l]) + (static_cast<float>(lower[r]) - static_cast<float>(lower[l])) * x.part;
          *out++ = top + (bottom - top) * y.part;
        }
      }
    });
  }
  return result;
}

Tensor resample(const Tensor& image, const Axis& rows, const Axis& columns, Resampling resampling) {
  const bool bytes = image.dtype() == DType::u8;
  if (resampling == Resampling::nearest) return pick_nearest(image, rows, columns);
  if (resampling == Resampling::bilinear)
    return bytes ? interpolate<std::uint8_t>(image, rows, columns) : interpolate<float>(image, rows, columns);
  return bytes ? convolve<std::uint8_t>(image, rows, columns, resampling)
               : convolve<float>(image, rows, columns, resampling);
}

// Python's round, which halves go to even in; torchvision and PIL place crops and borders with it.
Index half(Index space) { return static_cast<Index>(std::nearbyint(static_cast<double>(space) / 2)); }

Tensor resize_to_cover(const Tensor& image, Index height, Index width, Resampling resampling) {
  const Index h = image.shape()[0], w = image.shape()[1];
  const bool wide = w * height >= h * width;
  const Index full_height = wide ? height : h * width / w, full_width = wide ? w * height / h : width;
  return resample(image, {.source = h, .full = full_height, .first = half(full_height - height), .count = height},
                  {.source = w, .full = full_width, .first = half(full_width - width), .count = width}, resampling);
}

template <class T>
void fill(Tensor& image, Color background) {
  const Index channels = image.shape()[2];
  T* out = image.mutable_data<T>();
  for (Index i = 0; i < image.elements(); ++i)
    out[i] = static_cast<T>(background[channels == 3 ? static_cast<std::size_t>(i % 3) : 0]);
}

Tensor resize_to_fit(const Tensor& image, Index height, Index width, Resampling resampling, Color background) {
  const Index h = image.shape()[0], w = image.shape()[1], channels = image.shape()[2];
  const auto scaled = [](Index along, Index across, Index size) {
    const double exact = static_cast<double>(along) / static_cast<double>(across) * static_cast<double>(size);
    return std::max(static_cast<Index>(std::nearbyint(exact)), Index{1});
  };
  const bool wide = w * height >= h * width;
  const Index inner_height = wide ? scaled(h, w, width) : height;
  const Index inner_width = wide ? width : scaled(w, h, height);
  const Tensor inner = resample(image, {.source = h, .full = inner_height, .count = inner_height},
                                {.source = w, .full = inner_width, .count = inner_width}, resampling);
  Tensor result = Tensor::empty({height, width, channels}, inner.dtype());
  if (result.dtype() == DType::u8)
    fill<std::uint8_t>(result, background);
  else
    fill<float>(result, background);
  const std::size_t pixel = static_cast<std::size_t>(channels) * size_of(inner.dtype());
  const Index top = half(height - inner_height), left = half(width - inner_width);
  for (Index y = 0; y < inner_height; ++y) {
    std::memcpy(static_cast<std::byte*>(result.raw()) + static_cast<std::size_t>((top + y) * width + left) * pixel,
                static_cast<const std::byte*>(inner.raw()) + static_cast<std::size_t>(y * inner_width) * pixel,
                static_cast<std::size_t>(inner_width) * pixel);
  }
  return result;
}

}  // namespace

Tensor resize(const Tensor& image, Index height, Index width, Resampling resampling, Fit fit, Color background) {
  check(
      (image.dtype() == DType::u8 || image.dtype() == DType::f32) && image.shape().rank() == 3 && image.elements() > 0,
      "[resize] expected an image [H, W, C] of u8 or f32, got {} {}", image.dtype(), image.shape());
  check(height >= 1 && width >= 1 && height <= kMaxPixels / width,
        "[resize] expected a size of 1 x 1 to {} pixels, got {} x {}", kMaxPixels, height, width);
  if (fit == Fit::crop) return resize_to_cover(image, height, width, resampling);
  if (fit == Fit::pad) return resize_to_fit(image, height, width, resampling, background);
  return resample(image, {.source = image.shape()[0], .full = height, .count = height},
                  {.source = image.shape()[1], .full = width, .count = width}, resampling);
}

}  // namespace graft::data
