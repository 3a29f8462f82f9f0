#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "graft/core/activation.h"
#include "graft/core/context.h"
#include "graft/core/operand.h"
#include "graft/core/window.h"

// What the oneDNN kernels share. A kernel describes its call with descriptors, makes or finds a Plan (a primitive with
// the layouts it chose), and executes it on the operands. Activations stay in NHWC; weights are reordered into the
// layout the primitive asks for, because given graft's own it would run reference code.
namespace graft::kernels::onednn {

using dnnl::memory;

dnnl::engine& engine();

/// Gives OpenMP graft's thread budget until the end of the scope: oneDNN reads the calling thread's setting, which
/// set_threads on another one did not change.
class ThreadBudget {
 public:
  ThreadBudget();
  ~ThreadBudget();
  ThreadBudget(const ThreadBudget&) = delete;
  ThreadBudget& operator=(const ThreadBudget&) = delete;

 private:
  int previous_;
};

/// oneDNN has f32, bf16, i32 and u8; the others are `undef`.
memory::data_type type(DType dtype);
/// True for the types of activations that oneDNN computes in.
inline bool computes(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }
/// An image operand [N, H, W, C] as oneDNN's dimensions N, C, H, W, with the strides that it has.
memory::desc image(const Operand& x);
memory::desc dense(const memory::dims& dims, memory::data_type type);
dnnl::memory at(const memory::desc& desc, const void* data);

/// Adds a fused activation to the post-ops; false if oneDNN has no such function.
bool append_activation(dnnl::post_ops& ops, Activation activation);
/// Attributes that every primitive of graft's has: scratch memory comes from the caller, so that threads may share a
/// primitive.
dnnl::primitive_attr attributes(const dnnl::post_ops& ops = {});

/// A primitive and the scratch memory it needs.
struct Step {
  dnnl::primitive primitive;
  memory::desc scratchpad;

  Step() = default;
  explicit Step(const dnnl::primitive_desc_base& description)
      : primitive(description.get()), scratchpad(description.scratchpad_desc()) {}
  /// Runs it on this thread's stream and waits. Throws Error if oneDNN fails.
  void run(std::unordered_map<int, dnnl::memory> arguments) const;
};

/// Copies between layouts and types; with `accumulate` adds to what is there. Empty if the layouts are equal and there
/// is nothing to add.
struct Reorder {
  memory::desc from, to;
  std::shared_ptr<const Step> step;
  std::string layout;  ///< the target's, for copies that are kept

  Reorder() = default;
  Reorder(const memory::desc& source, const memory::desc& target, bool accumulate = false);
  /// The source in the target's layout: itself, or a copy, which `keep_alive` holds.
  dnnl::memory packed(const Operand& source, std::shared_ptr<const Storage>& keep_alive) const;
  /// Memory that a primitive shall write in the source's layout: the target itself, or a `buffer` that finish() copies.
  dnnl::memory unpacked(void* target, Tensor& buffer) const;
  void finish(const dnnl::memory& written, void* target) const;
};

/// False if oneDNN found no implementation, or only reference code, which is slower than graft's own.
bool is_fast(const dnnl::primitive_desc_base& description);

using Key = std::vector<Index>;
void append(Key& key, const WindowGeometry& g);
void append(Key& key, const Operand& x);

/// Plans by everything that distinguishes them; the least recently used makes room. A null Plan remembers that oneDNN
/// cannot. Safe from many threads.
template <class Plan>
class PlanCache {
 public:
  template <class Make>
  std::shared_ptr<const Plan> get(Key key, const Make& make) {
    key.push_back(threads());
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = index_.find(key); found != index_.end()) {
        plans_.splice(plans_.begin(), plans_, found->second);
        return found->second->second;
      }
    }
    const ThreadBudget budget;
    std::shared_ptr<const Plan> plan;
    try {
      plan = make();
    } catch (const dnnl::error&) {  // how oneDNN says that it does not support a descriptor
    }
    const std::lock_guard lock(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) return found->second->second;
    plans_.emplace_front(key, plan);
    index_[key] = plans_.begin();
    if (plans_.size() > kCapacity) {
      index_.erase(plans_.back().first);
      plans_.pop_back();
    }
    return plan;
  }

 private:
  static constexpr std::size_t kCapacity = 512;  // several networks' layers

  std::mutex mutex_;
  std::list<std::pair<Key, std::shared_ptr<const Plan>>> plans_;
  std::map<Key, typename decltype(plans_)::iterator> index_;
};

}  // namespace graft::kernels::onednn
