#pragma once

#include <vector>

#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/stack_context.hpp>

namespace graft::emulated {

/// Stacks of fibers, kept when a fiber ends for the next one. A kernel's own arrays live here, so a stack is larger
/// than the registers and local memory of a real thread would ask for.
class StackPool {
 public:
  static constexpr std::size_t kBytes = std::size_t{64} << 10;

  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool() {
    boost::context::fixedsize_stack source(kBytes);
    for (boost::context::stack_context& stack : free_) source.deallocate(stack);
  }

  boost::context::stack_context allocate() {
    if (free_.empty()) return boost::context::fixedsize_stack(kBytes).allocate();
    const boost::context::stack_context stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) { free_.push_back(stack); }

  /// What Boost.Context asks of an allocator of stacks: copied into the fiber.
  struct Allocator {
    StackPool* pool;
    boost::context::stack_context allocate() { return pool->allocate(); }
    void deallocate(boost::context::stack_context& stack) { pool->deallocate(stack); }
  };

 private:
  std::vector<boost::context::stack_context> free_;
};

}  // namespace graft::emulated
