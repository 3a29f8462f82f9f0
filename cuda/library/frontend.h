#pragma once

#include <memory>
#include <span>
#include <string>

#include "library/operation_graph.h"

struct cudnnContext;
struct CUstream_st;

// cuDNN's graph interface. One source includes its header-only frontend, which takes half a minute to compile.
namespace graft::cudnn {

/// Where an OperationGraph shall run: a GPU, by a handle of cuDNN on it, or one that is only described, so that it can
/// be asked what it would run where there is no GPU.
struct Target {
  cudnnContext* handle = nullptr;
  std::string properties = {};  ///< as cuDNN's CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, where there is no handle
  int architecture = 0;         ///< 90 for sm_90, where there is no handle
};

/// An OperationGraph that was translated for cuDNN, and the engines that its heuristics propose, best first.
///
/// Only those remain that compute what graft's own kernels do: sums of products (no Winograd or Fourier transforms), in
/// f32, of f32 factors unless TF32 is allowed, the same in every run, in at most `kMostWorkspace` bytes.
class Compiled {
 public:
  /// Never throws for a graph that cuDNN does not support: there are no engines then, and why() says the reason.
  Compiled(const OperationGraph& graph, const Target& target);
  ~Compiled();
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;

  /// How far cuDNN took the graph.
  enum class Stage : std::uint8_t { refused, valid, has_engines };
  Stage stage() const { return stage_; }
  const std::string& why() const { return why_; }

  /// The number of engines proposed, usable or not.
  int engines() const;
  /// An engine and how it is set, as cuDNN writes it.
  std::string name(int engine) const;
  /// Makes an engine ready to run. False if it does not support the graph, or computes otherwise than is allowed.
  bool build(int engine);
  std::size_t workspace(int engine) const;
  /// Queues a built engine in the handle's stream. Throws Error if cuDNN refuses. Safe from many threads, each with a
  /// handle of its own.
  void run(cudnnContext* handle, int engine, std::span<void* const> addresses, void* workspace) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  Stage stage_ = Stage::refused;
  std::string why_;
};

inline constexpr std::size_t kMostWorkspace = std::size_t{256} << 20;

}  // namespace graft::cudnn
