#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>

namespace graft::emulated {

/// A stack on which functions run one after the other, and which can be left in the middle of one and entered again. It
/// stays on the thread of the operating system that first entered it: compilers keep addresses of thread_local
/// variables across calls. The address sanitizer is told of every switch.
class Fiber {
 public:
  Fiber() : stack_(boost::context::fixedsize_stack(kStack).allocate()) {}
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  /// Must not be in the middle of a function.
  ~Fiber() { boost::context::fixedsize_stack(kStack).deallocate(stack_); }

  /// Runs `function` until it leaves or returns. The fiber must not be in the middle of another.
  void run(std::function<void()> function);
  /// Goes on where the fiber was left.
  void enter();
  /// Called on the fiber: goes back to who ran or entered it.
  void leave();
  /// Whether it is in the middle of a function.
  bool busy() const { return static_cast<bool>(self_); }

 private:
  // A kernel's own arrays live here, so that it is larger than the local memory of a real thread.
  static constexpr std::size_t kStack = std::size_t{64} << 10;

  struct Keep {  // gives Boost the stack and never takes it back
    boost::context::stack_context stack;
    boost::context::stack_context allocate() const { return stack; }
    void deallocate(boost::context::stack_context&) const {}
  };

  void before_entering();
  void after_leaving();

  boost::context::stack_context stack_;
  boost::context::fiber self_;    // while it is left in the middle
  boost::context::fiber caller_;  // while it runs
  std::function<void()> function_;
  void* caller_fake_stack_ = nullptr;  // the address sanitizer's
  void* own_fake_stack_ = nullptr;
  const void* caller_bottom_ = nullptr;
  std::size_t caller_size_ = 0;
};

}  // namespace graft::emulated
