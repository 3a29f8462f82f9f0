#pragma once

#include <array>
#include <cstdint>

#include "emulated/language.h"
#include "hopper/tensor_map.h"

// What hopper/instructions.h does on the emulated device.
namespace graft::emulated {

/// The 64 bits of an mbarrier. They stand in shared memory and are nobody's business.
struct BarrierState {
  std::uint8_t expected, pending;  ///< arrivals
  std::uint16_t parity;            ///< of the phase that is not complete
  std::int32_t bytes;              ///< expected and not copied yet
};

void init_barrier(BarrierState& barrier, unsigned count);
/// One arrival, and `bytes` more that copies must bring before the phase is complete.
void arrive_at_barrier(BarrierState& barrier, std::int32_t bytes);
/// Returns when the phase of this parity is complete.
void wait_at_barrier(BarrierState& barrier, unsigned parity);

/// Copies the box at `at`, for windows with the offset of a tap, and tells the barrier. The place is lost at once and
/// the box comes when somebody waits for it, so that who reads too long or too early reads garbage.
void copy_box(const hopper::MapDescription& map, const std::array<int, 4>& at, const std::array<int, 2>& offset,
              std::uint16_t* to, BarrierState& barrier);

/// Lets the threads of a warp meet, for instructions that all of them must execute together.
void meet_in_warp(const Site& site);

}  // namespace graft::emulated
