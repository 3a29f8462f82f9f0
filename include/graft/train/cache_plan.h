#pragma once

#include "graft/train/trainer.h"

namespace graft::train {

/// Where values are that were computed once.
enum class Place : std::uint8_t {
  nowhere,  ///< they are computed anew in every step
  memory,
  file,
};
std::string_view name(Place place);

/// One way to cut the frozen part: what comes before is computed once, the rest of it in every step.
struct CacheCut {
  FrozenPart part = {};
  std::size_t bytes = 0;         ///< of the values that are kept, for all photos
  Place place = Place::nowhere;  ///< where they would be read from; nowhere: they fit in no place
  bool in_file = false;          ///< written to the cache folder, for a later run too
  bool found = false;            ///< in the cache folder already, for all photos
  double once_seconds = 0;       ///< estimate: computing them, and writing
  double epoch_seconds = 0;      ///< estimate: reading them and running the rest of the frozen part, in one epoch
  double seconds = 0;            ///< estimate for the whole run
};

/// What becomes of the frozen part in a run, and why. Seconds are estimates by constants of the kind of machine, and
/// hold what the frozen part and its inputs take alone.
struct CachePlan {
  std::vector<CacheCut> cuts = {};  ///< in order of computation; empty if nothing is frozen or nothing may be kept
  int chosen = -1;                  ///< index into `cuts`; -1: the frozen part runs in every step
  double plain_seconds = 0;         ///< if it runs in every step
  std::string line = {};            ///< the decision in a line

  const CacheCut* cut() const { return chosen < 0 ? nullptr : &cuts[static_cast<std::size_t>(chosen)]; }
};

/// Decides for a run with these photos, and computes nothing but hashes. `validation` may be empty. Throws Error as
/// Trainer does if nothing is trainable.
CachePlan plan_caching(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
                       const TrainOptions& options);

}  // namespace graft::train
