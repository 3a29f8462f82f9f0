#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft::io {

/// A Python value as far as a PyTorch state dict needs it. Values refer to each other by pointer and belong to the
/// Pickle that made them, so that a hostile pickle can neither nest destructors nor leak a ring.
struct PickleValue {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    text,
    tuple,
    list,
    dict,
    global,   ///< a class or function: `text` is `module.name`
    storage,  ///< a persistent reference, `items` holds its tuple
    tensor,   ///< a call of _rebuild_tensor: `items` are its arguments
    opaque,   ///< harmless and of no use here
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<const PickleValue*> items;
  std::vector<std::pair<const PickleValue*, const PickleValue*>> entries;  ///< of a dict, in insertion order

  /// The dict's value under a text key, the last one if there are several; null if there is none.
  const PickleValue* find(std::string_view key) const;
};

/// Reads one pickle and executes nothing: opcodes and globals come from a closed list, and a "call" of a global only
/// builds the PickleValue that stands for it.
class Pickle {
 public:
  /// Reads from the start of `bytes`. `where` stands in errors. Throws Error for an opcode or global outside the list,
  /// and for a pickle that is truncated, malformed or would hold more than memory proportional to its length.
  Pickle(std::string where, std::span<const std::byte> bytes);

  Pickle(Pickle&&) = default;
  Pickle(const Pickle&) = delete;

  const PickleValue& value() const { return *result_; }
  /// Every reference to a storage, in the order of the pickle.
  const std::vector<const PickleValue*>& storages() const { return storages_; }
  /// How many bytes the pickle took.
  std::size_t size() const { return position_; }

 private:
  using Value = PickleValue;

  bool step();
  void tuple(std::size_t first);
  void append(std::size_t first);
  void set_items(std::size_t first);
  void reduce();
  void build();
  void global(std::string name);
  Value* make(Value::Kind kind);
  void push(Value* value) { stack_.push_back(value); }
  void push_integer(std::int64_t value);
  void push_text(std::string_view text, Value::Kind kind = Value::Kind::text);
  Value* pop();
  Value* top();
  std::size_t pop_mark();
  std::uint64_t unsigned_integer(std::size_t bytes);
  std::string_view take(std::uint64_t count);
  std::string_view line();
  void memoize(std::uint64_t key);
  void recall(std::uint64_t key);

  std::string where_;
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  std::deque<Value> values_;
  std::vector<Value*> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::uint64_t, Value*> memo_;
  std::vector<const Value*> storages_;
  const Value* result_ = nullptr;
};

}  // namespace graft::io
