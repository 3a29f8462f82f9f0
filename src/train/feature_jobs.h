#pragma once

#include "graft/train/cache_plan.h"

#include "train/feature_file.h"
#include "train/progress.h"

namespace graft::train {

/// Photos whose frozen values are computed together: each once as it is, or `views` times changed by augmentation.
/// Row v * photos + i is the version v of photo i: what epoch v of a run without a cache would see.
struct FeatureJob {
  std::shared_ptr<const data::ImageFolder> photos = {};
  Index views = 0;          ///< 0: as they are
  std::string photos_hash;  ///< of their content in their order, not of where they lie; empty without a cache folder

  Index rows() const { return photos->size() * std::max<Index>(1, views); }
};

/// Which rows of which job a data set reads; no job if it is not cached.
struct JobRows {
  int job = -1;
  std::vector<Index> rows = {};
};

struct FeatureJobs {
  std::vector<FeatureJob> jobs = {};
  JobRows train = {}, validation = {};
  double passes = 1;  ///< how often the run goes through the photos

  Index rows() const;
};

/// What may be computed once for a run. With a cache folder, photos are ordered by a hash of their content, each of
/// them once: so another split of the same photos, or the same ones in another folder, finds the same file.
FeatureJobs feature_jobs(const data::ImageFolder& train, const data::ImageFolder& validation,
                         const TrainOptions& options);

/// Decides among some parts, which come in order of computation.
CachePlan plan_jobs(nn::Network& network, const FeatureJobs& jobs, const TrainOptions& options,
                    const std::vector<FrozenPart>& parts);

/// Values that were computed for some jobs: for a deeper part of the same network they are a place to start from.
struct ComputedFeatures {
  FrozenPart part = {};
  std::vector<std::shared_ptr<const FeatureStore>> stores = {};  ///< one a job; empty if nothing is cached
  double seconds = 0;                                            ///< that computing took, not finding
  std::string trouble = {};                                      ///< why nothing is cached though that was the plan
};

/// The file of a job's values at a cut: what they are and what they were computed from.
class FeatureLayouts {
 public:
  FeatureLayouts(nn::Network& network, const TrainOptions& options);
  FeatureLayout operator()(const FrozenPart& part, const FeatureJob& job) const;

 private:
  const nn::Network& network_;
  const TrainOptions& options_;
  std::map<std::string, std::string> hashes_;  // of frozen parameters
  std::map<std::string, std::string> nodes_;   // what each computes, without what training may do to it
  std::map<std::string, Spec> specs_;
};

/// Carries out a plan: takes what the cache folder holds and computes the rest, from the values of `before` where its
/// part lies before the chosen one and that is quicker. Says a line for each file that could not be used or written.
ComputedFeatures compute_jobs(nn::Network& network, const FeatureJobs& jobs, const CachePlan& plan,
                              const TrainOptions& options, ProgressDisplay& display,
                              const ComputedFeatures& before = {});

/// The photos of a data set as its rows in the job's store.
std::unique_ptr<Source> job_source(const FeatureJobs& jobs, const ComputedFeatures& computed, const JobRows& rows,
                                   std::vector<Index> labels, const BatchOptions& options);

}  // namespace graft::train
