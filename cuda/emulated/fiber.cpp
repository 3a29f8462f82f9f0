#include "emulated/fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace graft::emulated {
namespace {

void announce_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                     [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#endif
}

void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** bottom,
                   [[maybe_unused]] std::size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
#endif
}

}  // namespace

void Fiber::before_entering() {
  announce_switch(&caller_fake_stack_, static_cast<const char*>(stack_.sp) - stack_.size, stack_.size);
}

void Fiber::after_leaving() { finish_switch(caller_fake_stack_, nullptr, nullptr); }

void Fiber::run(std::function<void()> function) {
  function_ = std::move(function);
  boost::context::fiber fresh(std::allocator_arg, Keep{stack_}, [this](boost::context::fiber&& caller) {
    caller_ = std::move(caller);
    finish_switch(nullptr, &caller_bottom_, &caller_size_);
    function_();
    announce_switch(nullptr, caller_bottom_, caller_size_);  // null: this stack's frames are over
    return std::move(caller_);
  });
  before_entering();
  self_ = std::move(fresh).resume();
  after_leaving();
}

void Fiber::enter() {
  before_entering();
  self_ = std::move(self_).resume();
  after_leaving();
}

void Fiber::leave() {
  announce_switch(&own_fake_stack_, caller_bottom_, caller_size_);
  caller_ = std::move(caller_).resume();
  finish_switch(own_fake_stack_, &caller_bottom_, &caller_size_);
}

}  // namespace graft::emulated
