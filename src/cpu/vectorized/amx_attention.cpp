#include "cpu/vectorized/amx_attention.h"

#include <array>

#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "cpu/vectorized/amx_tile.h"
#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"

namespace graft::kernels::vectorized {
namespace {

// Tiles of sums of up to 32 rows of halves with panels in pairs, which have `columns` altogether.
void multiply(const Half* rows, Index pitch, Index count, Index depth, const Half* weights, Index columns,
              float* sums) {
  const AmxRows all = side_by_side(rows, pitch, depth);
  for (Index c = 0; c < columns; c += kTileColumns, sums += kAmxSums)
    amx_tile({.rows = &all,
              .weights = weights + c * depth,
              .columns = panel_width(std::min(kTileColumns, columns - c)),
              .sums = sums,
              .count = count});
}

}  // namespace

void attention_forward_by_amx(Index heads, float scale, const Operand& q, const Operand& k, const Operand& v,
                              const Operand& y, const Operand& log_sums) {
  const Index length = q.shape[1], keys = k.shape[1], depth = q.shape[2] / heads;
  const Index whole_depth = round_up(depth, kAmxDepth), whole_keys = round_up(keys, kAmxDepth),
              key_panels = whole_keys / kTileColumns, depth_panels = panels(depth);
  parallel_for(q.shape[0] * heads, [&](Index task) {
    const Index n = task / heads, head = task % heads;
    const Scratch<Half> key_memory(whole_keys * whole_depth), value_memory(whole_keys * depth_panels * kTileColumns),
        queries(kAmxRows * (whole_depth + kAmxDepth)), weights(kAmxRows * (whole_keys + kAmxDepth));
    const Scratch<float> sums(std::max(key_panels, depth_panels) * kAmxSums), scores(whole_keys);
    const AmxTiles configured;
    const Half* const key_rows = head_of<Half>(k, n, head, depth);
    for (Index j = 0; j < keys; j += kTileColumns)
      pair_columns(key_rows + j * k.pitch, k.pitch, std::min(kTileColumns, keys - j), depth,
                   key_memory.data() + j * whole_depth);
    std::vector<const Half*> rows(static_cast<std::size_t>(std::max(keys, kAmxRows)));
    for (Index j = 0; j < keys; ++j) rows[static_cast<std::size_t>(j)] = head_of<Half>(v, n, head, depth) + j * v.pitch;
    for (Index c = 0; c < depth; c += kTileColumns)
      pair_rows(rows.data(), keys, c, std::min(kTileColumns, depth - c), value_memory.data() + c * whole_keys);
    std::array<Index, static_cast<std::size_t>(kAmxRows)> positions{};
    const Index query_pitch = whole_depth + kAmxDepth, weight_pitch = whole_keys + kAmxDepth;
    std::fill_n(weights.data(), kAmxRows * weight_pitch, Half{});
    for (Index first = 0; first < length; first += kAmxRows) {
      const Index count = std::min(kAmxRows, length - first);
      for (Index r = 0; r < count; ++r) {
        rows[static_cast<std::size_t>(r)] = head_of<Half>(q, n, head, depth) + (first + r) * q.pitch;
        positions[static_cast<std::size_t>(r)] = first + r;
      }
      gather_rows(rows.data(), count, 0, depth, queries.data(), query_pitch);
      multiply(queries.data(), query_pitch, count, whole_depth, key_memory.data(), whole_keys, sums.data());
      for (Index r = 0; r < count; ++r) {
        for (Index i = 0; i < key_panels; ++i)
          std::copy_n(sums.data() + i * kAmxSums + r * kTileColumns, kTileColumns, scores.data() + i * kTileColumns);
        log_sums.as<float>()[task * length + first + r] = graft::cpu::softmax_row(scores.data(), scale, keys);
        graft::cpu::put(reinterpret_cast<bfloat16*>(weights.data() + r * weight_pitch), scores.data(), keys, false);
      }
      multiply(weights.data(), weight_pitch, count, whole_keys, value_memory.data(), depth, sums.data());
      for (Index i = 0; i < depth_panels; ++i)
        write_sums(sums.data() + i * kAmxSums,
                   {.y = elements<Half>(y) + n * length * y.pitch + head * depth + i * kTileColumns,
                    .y_pitch = y.pitch,
                    .positions = positions.data(),
                    .count = count,
                    .columns = std::min(kTileColumns, depth - i * kTileColumns)});
    }
  });
}

}  // namespace graft::kernels::vectorized
