#include "cpu/vectorized/amx_tile.h"

#include <immintrin.h>

#include "cpu/vectorized/elements.h"

namespace graft::kernels::vectorized {
namespace {

// The operand of LDTILECFG: eight tiles of 16 rows of 64 bytes.
struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights.
template <int kRows, int kColumns>
void product(const AmxTile& t) {
  constexpr std::int64_t kSumBytes = kTileColumns * sizeof(float), kHalf = kAmxTileRows;
  if (t.accumulate) {
    _tile_loadd(0, t.sums, kSumBytes);
    if constexpr (kColumns > 1) _tile_loadd(1, t.sums + kHalf, kSumBytes);
    if constexpr (kRows > 1) _tile_loadd(2, t.sums + kHalf * kTileColumns, kSumBytes);
    if constexpr (kRows > 1 && kColumns > 1) _tile_loadd(3, t.sums + kHalf * kTileColumns + kHalf, kSumBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  constexpr std::int64_t kWeightBytes = kColumns * 64;
  const Half* weights = t.weights;
  for (const AmxRows* at = t.rows; at != t.rows + t.stretches; ++at) {
    const std::int64_t upper_bytes = at->upper.pitch * 2, lower_bytes = at->lower.pitch * 2;
    for (std::int64_t k = 0; k < at->depth; k += kAmxDepth) {
      _tile_loadd(6, weights, kWeightBytes);
      _tile_loadd(4, at->upper.rows + k, upper_bytes);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kColumns > 1) {
        _tile_loadd(7, weights + kAmxDepth, kWeightBytes);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (kRows > 1) {
        _tile_loadd(5, at->lower.rows + k, lower_bytes);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (kColumns > 1) _tile_dpbf16ps(3, 5, 7);
      }
      weights += kAmxDepth * kHalf * kColumns;
    }
  }
  _tile_stored(0, t.sums, kSumBytes);
  if constexpr (kColumns > 1) _tile_stored(1, t.sums + kHalf, kSumBytes);
  if constexpr (kRows > 1) _tile_stored(2, t.sums + kHalf * kTileColumns, kSumBytes);
  if constexpr (kRows > 1 && kColumns > 1) _tile_stored(3, t.sums + kHalf * kTileColumns + kHalf, kSumBytes);
}

}  // namespace

AmxTiles::AmxTiles() {
  static const Configuration configuration;  // the intrinsic of g++ 12 admits to reading no more than its first words
  _tile_loadconfig(&configuration);
}
AmxTiles::~AmxTiles() { _tile_release(); }

AmxRows side_by_side(const Half* rows, std::int64_t pitch, std::int64_t depth) {
  return {{rows, pitch}, {rows + kAmxTileRows * pitch, pitch}, depth};
}

void amx_tile(const AmxTile& tile) {
  const bool wide = tile.columns > kVectorColumns;
  if (tile.count > kAmxTileRows)
    wide ? product<2, 2>(tile) : product<2, 1>(tile);
  else
    wide ? product<1, 2>(tile) : product<1, 1>(tile);
}

void gather_rows(const Half* const* rows, std::int64_t count, std::int64_t first, std::int64_t depth, Half* to,
                 std::int64_t pitch) {
  const auto last = static_cast<__mmask32>(~0u >> (31 - (depth - 1) % 32));
  for (std::int64_t r = 0; r < count; ++r, to += pitch) {
    const Half* from = rows[r] + first;
    std::int64_t k = 0;
    for (; k + 32 < depth; k += 32) _mm512_storeu_si512(to + k, _mm512_loadu_si512(from + k));
    _mm512_storeu_si512(to + k, _mm512_maskz_loadu_epi16(last, from + k));
  }
}

void transpose_rows(const Half* from, std::int64_t from_pitch, const std::int64_t* rows, std::int64_t count,
                    std::int64_t columns, Half* to, std::int64_t pitch) {
  const Mask mask = first_lanes(columns);
  for (std::int64_t p = 0; p < count; p += 32, to += 32) {
    Lanes block[16];
    const auto row = [&](std::int64_t i) {
      if (i >= count) return _mm512_setzero_si512();
      return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from + rows[i] * from_pitch));
    };
    unrolled<16>([&](auto i) {
      block[i] = _mm512_castsi512_ps(_mm512_or_si512(row(p + 2 * i), _mm512_slli_epi32(row(p + 2 * i + 1), 16)));
    });
    transpose(block);
    unrolled<16>([&](auto i) { _mm512_storeu_ps(to + i * pitch, block[i]); });
  }
}

void pair_rows(const Half* const* rows, std::int64_t count, std::int64_t first, std::int64_t columns, Half* to) {
  const std::int64_t whole = (count + 31) / 32 * 32;
  for (std::int64_t p = 0; p < whole; p += 2) {
    for (std::int64_t c = 0; c < columns; c += kVectorColumns, to += 2 * kVectorColumns) {
      const Mask mask = first_lanes(columns - c);
      const auto row = [&](std::int64_t i) {
        if (i >= count) return _mm512_setzero_si512();
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, rows[i] + first + c));
      };
      _mm512_storeu_si512(to, _mm512_or_si512(row(p), _mm512_slli_epi32(row(p + 1), 16)));
    }
  }
}

void pair_columns(const Half* from, std::int64_t pitch, std::int64_t count, std::int64_t depth, Half* to) {
  for (std::int64_t k = 0; k < depth; k += 32, to += 32 * kTileColumns) {
    const std::int64_t left = depth - k;
    const auto mask = static_cast<__mmask32>(left >= 32 ? ~0u : (1u << left) - 1);
    for (std::int64_t c = 0; c < kTileColumns; c += 16) {
      Lanes block[16];
      unrolled<16>([&](auto i) {
        block[i] =
            c + i < count ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, from + (c + i) * pitch + k)) : zeros();
      });
      transpose(block);
      unrolled<16>([&](auto i) { _mm512_storeu_ps(to + (i * kTileColumns + c) * 2, block[i]); });
    }
  }
}

void write_sums(const float* sums, const ProductTile<Half>& t) {
  const Bounds bounds(t.clamp);
  Mask masks[2];
  Lanes bias[2];
  unrolled<2>([&](auto v) {
    masks[v] = first_lanes(t.columns - v * kVectorColumns);
    bias[v] = t.bias == nullptr ? zeros() : load(masks[v], t.bias + v * kVectorColumns);
  });
  for (std::int64_t r = 0; r < t.count; ++r) {
    Lanes sum[2];
    unrolled<2>([&](auto v) {
      const std::int64_t c = v * kVectorColumns;
      sum[v] = load(sums + r * kTileColumns + c) + bias[v];
      if (t.residual != nullptr) sum[v] = sum[v] + load(masks[v], t.residual + t.positions[r] * t.residual_pitch + c);
      sum[v] = bounds(sum[v]);
    });
    const auto halves = (__m512i)_mm512_cvtne2ps_pbh(sum[1], sum[0]);
    Half* y = t.y + t.positions[r] * t.y_pitch;
    if (t.streams && t.columns == kTileColumns)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y), halves);
    else
      _mm512_mask_storeu_epi16(y, __mmask32{masks[1]} << 16 | masks[0], halves);
  }
}

}  // namespace graft::kernels::vectorized
