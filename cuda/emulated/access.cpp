// What the compiler calls at each access to memory of a kernel that is compiled with -fsanitize=thread. The program is
// linked without the sanitizer: these functions stand in for its runtime and look for the mistakes that a GPU would
// hide.

#include <algorithm>

#include "emulated/block.h"

namespace {

void note(const void* instruction, const void* at, std::size_t bytes, bool write, bool atomic = false) {
  graft::emulated::Thread* thread = graft::emulated::current_thread;
  if (thread != nullptr && thread->block->checked()) thread->block->note(at, bytes, write, atomic, instruction);
}

// A GPU copies a struct that is no vector word by word.
void note_words(const char* instruction, void* at, std::size_t bytes, bool write) {
  constexpr std::size_t kWord = 4;
  for (std::size_t done = 0; done < bytes; done += kWord)
    note(instruction + done, static_cast<char*>(at) + done, std::min(kWord, bytes - done), write);
}

}  // namespace

// The place in the kernel that announces the access.
#define GRAFT_HERE static_cast<const char*>(__builtin_return_address(0))

// NOLINTBEGIN(bugprone-reserved-identifier,bugprone-macro-parentheses): the compiler gives the names, and types cannot
// stand in parentheses.
extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* at, std::size_t bytes) { note_words(GRAFT_HERE, at, bytes, false); }
void __tsan_write_range(void* at, std::size_t bytes) { note_words(GRAFT_HERE, at, bytes, true); }

#define GRAFT_ACCESS(bytes)                                                           \
  void __tsan_read##bytes(void* at) { note(GRAFT_HERE, at, bytes, false); }           \
  void __tsan_write##bytes(void* at) { note(GRAFT_HERE, at, bytes, true); }           \
  void __tsan_unaligned_read##bytes(void* at) { note(GRAFT_HERE, at, bytes, false); } \
  void __tsan_unaligned_write##bytes(void* at) { note(GRAFT_HERE, at, bytes, true); }
GRAFT_ACCESS(1)
GRAFT_ACCESS(2)
GRAFT_ACCESS(4)
GRAFT_ACCESS(8)
GRAFT_ACCESS(16)
#undef GRAFT_ACCESS

// The orders that the caller asks for do not matter: the strongest one holds.
#define GRAFT_ATOMIC_UPDATE(bits, type, update)                              \
  type __tsan_atomic##bits##_##update(volatile type* at, type value, int) {  \
    note(GRAFT_HERE, const_cast<const type*>(at), sizeof(type), true, true); \
    return __atomic_##update(at, value, __ATOMIC_SEQ_CST);                   \
  }
#define GRAFT_ATOMIC(bits, type)                                                                               \
  type __tsan_atomic##bits##_load(const volatile type* at, int) {                                              \
    note(nullptr, const_cast<const type*>(at), sizeof(type), false, true);                                     \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                              \
  }                                                                                                            \
  void __tsan_atomic##bits##_store(volatile type* at, type value, int) {                                       \
    note(GRAFT_HERE, const_cast<const type*>(at), sizeof(type), true, true);                                   \
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                                             \
  }                                                                                                            \
  type __tsan_atomic##bits##_exchange(volatile type* at, type value, int) {                                    \
    note(GRAFT_HERE, const_cast<const type*>(at), sizeof(type), true, true);                                   \
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                            \
  GRAFT_ATOMIC_UPDATE(bits, type, fetch_add)                                                                   \
  GRAFT_ATOMIC_UPDATE(bits, type, fetch_sub)                                                                   \
  GRAFT_ATOMIC_UPDATE(bits, type, fetch_and)                                                                   \
  GRAFT_ATOMIC_UPDATE(bits, type, fetch_or)                                                                    \
  GRAFT_ATOMIC_UPDATE(bits, type, fetch_xor)                                                                   \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* at, type* expected, type value, int, int) { \
    note(GRAFT_HERE, const_cast<const type*>(at), sizeof(type), true, true);                                   \
    return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }                                                                                                            \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* at, type* expected, type value, int, int) {   \
    return __tsan_atomic##bits##_compare_exchange_strong(at, expected, value, 0, 0);                           \
  }
GRAFT_ATOMIC(8, std::uint8_t)
GRAFT_ATOMIC(16, std::uint16_t)
GRAFT_ATOMIC(32, std::uint32_t)
GRAFT_ATOMIC(64, std::uint64_t)
#undef GRAFT_ATOMIC
#undef GRAFT_ATOMIC_UPDATE

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,bugprone-macro-parentheses)
