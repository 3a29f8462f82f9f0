#include <algorithm>
#include <array>

#include "device/gemm.h"
#include "hopper/kernel.h"
#include "runtime/launch.h"

#if !defined(__CUDACC__)
#define GRAFT_HOPPER_PROVED 0
#endif

namespace graft::GRAFT_TARGET::hopper {
namespace {

constexpr Index kMultiprocessors = 132;  // of an H100 SXM and an H200

// The tile and the parts of a product, by its shape alone so that results do not depend on the GPU.
struct Plan {
  int columns;  // of a tile
  Index tiles, parts, steps_a_part;
};

// As parts_of in device/gemm.h, for blocks that have a multiprocessor to themselves and steps twice as deep.
Plan plan_of(int columns, Index tiles, Index steps) {
  constexpr Index kLeastSteps = 4, kMostParts = 64;
  const Index wanted = tiles > 0 ? kMultiprocessors / tiles : 1;
  Plan plan{columns, tiles, std::clamp<Index>(std::min(wanted, steps / kLeastSteps), 1, kMostParts), 0};
  plan.steps_a_part = (steps + plan.parts - 1) / plan.parts;
  if (steps > 0) plan.parts = (steps + plan.steps_a_part - 1) / plan.steps_a_part;
  return plan;
}

// The time of a plan, in columns that a multiprocessor multiplies: rounds of tiles, each of its steps and of writing
// the tile, which counts as two. A step has a part that does not shrink with the tile, for A is copied whole.
Index cost(const Plan& plan) {
  constexpr Index kFixed = 32, kWriting = 2;
  const Index rounds = (plan.tiles * plan.parts + kMultiprocessors - 1) / kMultiprocessors;
  return rounds * (plan.steps_a_part + kWriting) * (plan.columns + kFixed);
}

Plan best_plan(Index row_tiles, Index spans, Index products, Index steps, int asked) {
  Plan best{};
  for (const int columns : {256, 128, 64}) {
    if (asked != 0 && columns != asked) continue;
    const Index across = columns / kSpan, column_tiles = (spans + across - 1) / across;
    const Plan plan = plan_of(columns, row_tiles * column_tiles * products, steps);
    if (best.columns == 0 || cost(plan) < cost(best)) best = plan;
  }
  return best;
}

Factor factor_of(const FactorDescription& d) {
  const bool windows = d.map.windows;
  const int blocks = tiles(d.line_taps.channels, kSpan);
  return {.map = encode(d.map),
          .windows = windows,
          .lines = d.line_taps.taps() == 1 ? d.lines : d.line_taps.taps() * blocks * kSpan,
          .product = d.each_product ? 1 : 0,
          .first_across = d.first_across,
          .step_across = d.step_across,
          .first_down = d.first_down,
          .step_down = d.step_down,
          .stride_across = d.map.stride[0],
          .stride_down = d.map.stride[1],
          .corner_across = d.map.lower[0],
          .corner_down = d.map.lower[1],
          .pixels = d.pixels,
          .columns = d.columns,
          .line_blocks = Divider(blocks),
          .line_taps = Divider(d.line_taps.taps_across)};
}

int blocks_at_once(const Context& context) {
#if defined(__CUDACC__)
  int count = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, context.device.index);
  if (status == cudaSuccess) return count;
  cudaGetLastError();
  return static_cast<int>(kMultiprocessors);
#else
  static_cast<void>(context);
  return 3;  // so that blocks compute several tiles of a small product too
#endif
}

template <class T, bool DepthInnerA, bool DepthInnerB, int Columns, class To>
void launch_with(const Context& context, const char* name, const TmaProduct<To>& p, Index tiles) {
  launch(context, name,
         {.grid = dim3(static_cast<unsigned>(std::min<Index>(tiles, blocks_at_once(context)))),
          .block = dim3(kThreads),
          .shared = Tile<Columns>::kBytes},
         tma_product_kernel<T, DepthInnerA, DepthInnerB, Columns, TmaProduct<To>>, p);
}

template <class T, bool DepthInnerA, bool DepthInnerB, class To>
void launch_product(const Context& context, const char* name, const ProductDescription<To>& d) {
  const int depth_blocks = tiles(d.depth.channels, kSpan), steps = d.depth.taps() * depth_blocks;
  TmaProduct<To> p{.a = {},
                   .b = {},
                   .epilogue = d.epilogue,
                   .batch = d.batch,
                   .rows = d.rows,
                   .columns = d.columns,
                   .products = d.products,
                   .depth_blocks = Divider(std::max(depth_blocks, 1)),
                   .taps_across = Divider(d.depth.taps_across),
                   .column_blocks = Divider(tiles(d.b.line_taps.channels, kSpan)),
                   .column_channels = d.b.line_taps.channels,
                   .row_tiles = tiles(d.rows, Tile<64>::kRows),
                   .column_tiles = 0,
                   .all_steps = steps,
                   .parts = 1,
                   .steps_a_part = steps,
                   .partial = nullptr};
  const int spans = d.b.line_taps.taps() * tiles(d.b.line_taps.channels, kSpan);
  const Plan plan = best_plan(p.row_tiles, spans, d.products, steps, d.tile_columns);
  FactorDescription a = d.a, b = d.b;
  a.map.box_rows = DepthInnerA ? Tile<64>::kRows : kSpan;
  b.map.box_rows = DepthInnerB ? static_cast<std::uint32_t>(plan.columns) : kSpan;
  p.a = factor_of(a);
  p.b = factor_of(b);
  p.column_tiles = tiles(spans * kSpan, plan.columns);
  p.parts = static_cast<int>(plan.parts);
  p.steps_a_part = static_cast<int>(plan.steps_a_part);
  Tensor partial;
  if (p.parts > 1) {
    partial = Tensor::empty(Shape{p.parts, p.products, p.rows, p.columns}, DType::f32, context.device);
    p.partial = static_cast<float*>(partial.raw());
  }
  count_launch("hopper_product");
  const Index all = plan.tiles * plan.parts;
  if (plan.columns == 256)
    launch_with<T, DepthInnerA, DepthInnerB, 256>(context, name, p, all);
  else if (plan.columns == 128)
    launch_with<T, DepthInnerA, DepthInnerB, 128>(context, name, p, all);
  else
    launch_with<T, DepthInnerA, DepthInnerB, 64>(context, name, p, all);
  if (p.parts > 1) {
    const Index vectors = static_cast<Index>(tiles(p.columns, Epilogue<To>::kWidth)) * p.rows * p.products;
    launch(context, name, grid_for(vectors), finish_gemm_kernel<TmaProduct<To>>, p);
  }
}

}  // namespace

bool allowed(const Context& context) {
#if defined(__CUDACC__)
  if (!GRAFT_HOPPER_PROVED && !context.allow_unproved) return false;
  int major = 0, minor = 0;
  const bool known =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, context.device.index) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, context.device.index) == cudaSuccess;
  if (!known) cudaGetLastError();
  return known && major == 9 && minor == 0;
#else
  return context.allow_unproved;
#endif
}

template <class T, class To>
bool multiply(const Context& context, const char* name, const ProductDescription<To>& d) {
  if (d.rows == 0 || d.columns == 0 || d.products == 0 || d.depth.channels == 0 || d.depth.taps() == 0) return false;
  for (const FactorDescription* factor : {&d.a, &d.b}) {
    MapDescription map = factor->map;
    map.box_rows = kSpan;
    if (broken_rule(map) != nullptr) return false;
  }
  // Sums in float are the gradients of weights, whose factors both have their lines inner. A product of two transposed
  // matrices no op asks for.
  if (!d.depth_inner_a && !d.depth_inner_b) {
    launch_product<T, false, false>(context, name, d);
    return true;
  }
  if constexpr (std::is_same_v<T, To>) {
    if (d.depth_inner_a && d.depth_inner_b)
      launch_product<T, true, true>(context, name, d);
    else if (d.depth_inner_a)
      launch_product<T, true, false>(context, name, d);
    return d.depth_inner_a;
  }
  return false;
}

template bool multiply<bfloat16, bfloat16>(const Context&, const char*, const ProductDescription<bfloat16>&);
template bool multiply<bfloat16, float>(const Context&, const char*, const ProductDescription<float>&);
template bool multiply<float16, float16>(const Context&, const char*, const ProductDescription<float16>&);
template bool multiply<float16, float>(const Context&, const char*, const ProductDescription<float>&);

}  // namespace graft::GRAFT_TARGET::hopper
