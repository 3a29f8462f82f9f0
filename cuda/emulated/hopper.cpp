#include "emulated/hopper.h"

#include <algorithm>
#include <cstring>

#include "graft/core/dtype.h"

// The model of Hopper's asynchronous units, from the PTX ISA's description of them and apart from hopper/layout.h: what
// these write and read agrees only if the kernel's numbers are right.
namespace graft::emulated {
namespace {

constexpr int kRowElements = 64;     // of a box
constexpr unsigned kRowBytes = 128;  // one period of the swizzle is eight of them

// 9.7.15.5.1.2.1.3, Swizzle<3, 4, 3>: bits 7-9 of an address are added to bits 4-6.
unsigned exchange(unsigned address) { return address ^ ((address >> 7 & 7u) << 4); }

unsigned address_of(const void* shared) {
  return static_cast<unsigned>(static_cast<const std::byte*>(shared) - this_thread().block->dynamic_shared());
}

// A row of a box: 64 elements of the innermost axis from `at` on. Zeros outside.
void copy_row(const hopper::MapDescription& map, const std::array<int, 4>& at, std::uint16_t* to) {
  bool inside = true;
  std::size_t offset = 0;
  for (std::size_t axis = 1; axis < at.size(); ++axis) {
    inside = inside && at[axis] >= 0 && static_cast<std::uint64_t>(at[axis]) < map.extents[axis];
    offset += static_cast<std::size_t>(at[axis]) * map.strides[axis];
  }
  const auto* const row =
      reinterpret_cast<const std::uint16_t*>(static_cast<const std::byte*>(map.data) + (inside ? offset : 0));
  Block& block = *this_thread().block;
  const std::int64_t first = std::max(at[0], 0);
  const std::int64_t end = std::min(at[0] + std::int64_t{kRowElements}, static_cast<std::int64_t>(map.extents[0]));
  if (inside && first < end && block.counted())
    block.count_copied(row + first, static_cast<std::size_t>(end - first) * sizeof(*row));
  for (int i = 0; i < kRowElements; ++i) {
    const int element = at[0] + i;
    const bool there = inside && element >= 0 && static_cast<std::uint64_t>(element) < map.extents[0];
    if (there && block.checked()) block.note(row + element, sizeof(*row), false, false, nullptr);
    to[i] = there ? row[element] : std::uint16_t{0};
  }
}

// 5.5.4: the base pixel walks over the bounding box, and what is read lies `offset` from it.
struct Walk {
  const hopper::MapDescription& map;
  std::array<int, 4> base;

  void next() {
    for (std::size_t axis = 1; axis <= 2; ++axis) {
      base[axis] += map.stride[axis - 1];
      if (base[axis] <= static_cast<int>(map.extents[axis]) - 1 + map.upper[axis - 1]) return;
      base[axis] = map.lower[axis - 1];
    }
    ++base[3];
  }
};

void complete(BarrierState& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.parity ^= 1;
  barrier.pending = barrier.expected;
  this_thread().block->wake_waiting(&barrier);
}

void bring(const hopper::MapDescription& map, const std::array<int, 4>& at, const std::array<int, 2>& offset,
           std::uint16_t* to, BarrierState& barrier) {
  Walk walk{map, at};
  for (unsigned row = 0; row < map.box_rows; ++row, walk.next()) {
    std::uint16_t values[kRowElements];
    std::array<int, 4> from = map.windows ? walk.base : at;
    if (map.windows) {
      from[1] += offset[0];
      from[2] += offset[1];
    } else {
      from[static_cast<std::size_t>(map.rows_axis)] += static_cast<int>(row);
    }
    copy_row(map, from, values);
    const unsigned begin = address_of(to) + row * kRowBytes;
    for (unsigned byte = 0; byte < kRowBytes; byte += 16)
      std::memcpy(this_thread().block->dynamic_shared() + exchange(begin + byte), values + byte / 2, 16);
  }
  barrier.bytes -= static_cast<std::int32_t>(map.box_rows * kRowBytes);
  complete(barrier);
}

template <class T>
float value_of(std::uint16_t bits) {
  T value;
  value.bits = bits;
  return static_cast<float>(value);
}

// The 16 depths of a line of a factor, found through its descriptor as 9.7.15.5.1.2 says.
template <class T>
void read_line(const std::byte* shared, std::uint64_t descriptor, bool depth_inner, unsigned line, float* to) {
  const auto field = [&](int at) { return static_cast<unsigned>(descriptor >> at & 0x3FFFu) << 4; };
  const unsigned start = field(0), leading = field(16), stride = field(32);
  for (unsigned depth = 0; depth < 16; ++depth) {
    const unsigned address = depth_inner ? start + line / 8 * stride + line % 8 * kRowBytes + depth * 2
                                         : start + line / kRowElements * leading + line % kRowElements * 2 +
                                               depth / 8 * stride + depth % 8 * kRowBytes;
    std::uint16_t bits;
    std::memcpy(&bits, shared + exchange(address), sizeof bits);
    to[depth] = value_of<T>(bits);
  }
}

// Accumulator D, 9.7.15.5.1.1.1: of eight columns a thread has two, in two rows.
template <class T>
void multiply(const AsyncProducts::Product& product, const std::byte* shared, unsigned thread) {
  const unsigned row = thread / 32 * 16 + thread % 32 / 4, first_column = thread % 4 * 2;
  float a[2][16], b[16];
  for (unsigned r = 0; r < 2; ++r) read_line<T>(shared, product.a, product.depth_inner_a, row + r * 8, a[r]);
  for (unsigned eight = 0; eight < static_cast<unsigned>(product.columns) / 8; ++eight) {
    for (unsigned c = 0; c < 2; ++c) {
      read_line<T>(shared, product.b, product.depth_inner_b, eight * 8 + first_column + c, b);
      for (unsigned r = 0; r < 2; ++r) {
        float sum = 0;
        for (int k = 0; k < 16; ++k) sum += a[r][k] * b[k];
        product.sums[eight * 4 + r * 2 + c] += sum;
      }
    }
  }
}

}  // namespace

void init_barrier(BarrierState& barrier, unsigned count) {
  barrier.expected = barrier.pending = static_cast<std::uint8_t>(count);
  barrier.bytes = 0;
  barrier.parity = 0;
}

void arrive_at_barrier(BarrierState& barrier, std::int32_t bytes) {
  if (barrier.pending == 0) this_thread().block->fail("more arrivals at an mbarrier than it was made for");
  barrier.bytes += bytes;
  --barrier.pending;
  complete(barrier);
}

void wait_at_barrier(BarrierState& barrier, unsigned parity) {
  static constexpr Site kSite{"mbarrier.try_wait"};
  while (barrier.parity == parity) this_thread().block->wait_for(&barrier, kSite);
}

void copy_box(const hopper::MapDescription& map, const std::array<int, 4>& at, const std::array<int, 2>& offset,
              std::uint16_t* to, BarrierState& barrier) {
  Block& block = *this_thread().block;
  if (address_of(to) % (8 * kRowBytes) != 0) block.stop_misaligned(to, std::size_t{8} * kRowBytes);
  std::memset(to, 0xFF, std::size_t{map.box_rows} * kRowBytes);  // NaN
  block.leave_until_awaited(&barrier, [map, at, offset, to, &barrier] { bring(map, at, offset, to, barrier); });
}

void AsyncProducts::wait(Block& block, unsigned thread, unsigned pending) {
  std::size_t done = 0;
  while (done < under_way_.size() && under_way_[done].group + pending < groups_) {
    const Product& product = under_way_[done++].product;
    if (product.bfloat)
      multiply<bfloat16>(product, block.dynamic_shared(), thread);
    else
      multiply<float16>(product, block.dynamic_shared(), thread);
  }
  under_way_.erase(under_way_.begin(), under_way_.begin() + static_cast<std::ptrdiff_t>(done));
}

void meet_in_warp(const Site& site) {
  warp_function<char, char>(site, 0xffffffffu, 0, [](const char* const*, char* const*) {});
}

}  // namespace graft::emulated
