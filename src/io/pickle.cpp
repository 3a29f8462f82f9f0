#include "io/pickle.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/format.h"

namespace graft::io {
namespace {

using Kind = PickleValue::Kind;

// Everything that a state dict may name. Calling one of the functions builds a value, the rest stand for themselves.
constexpr std::array<std::string_view, 21> kGlobals = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.FloatStorage",
    "torch.DoubleStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
    "torch.CharStorage",
    "torch.ShortStorage",
    "torch.float32",
    "torch.float64",
    "torch.float16",
    "torch.bfloat16",
    "torch.int64",
    "torch.device",
};

}  // namespace

const PickleValue* PickleValue::find(std::string_view key) const {
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->first->kind == Kind::text && entry->first->text == key) return entry->second;
  }
  return nullptr;
}

Pickle::Pickle(std::string where, std::span<const std::byte> bytes) : where_(std::move(where)), bytes_(bytes) {
  while (step()) {
  }
}

// One opcode, in the groups of Python's pickletools. False after STOP.
bool Pickle::step() {
  const std::size_t at = position_;
  const auto code = static_cast<unsigned char>(take(1)[0]);
  switch (code) {
    case 0x80:
      take(1);
      return true;  // PROTO
    case 0x95:
      take(8);
      return true;  // FRAME
    case '.':       // STOP
      result_ = pop();
      return false;
    case '(':
      marks_.push_back(stack_.size());
      return true;  // MARK
    case '0':
      pop();
      return true;  // POP
    case 'N':
      push(make(Kind::none));
      return true;  // NONE
    case 0x88:      // NEWTRUE
    case 0x89:      // NEWFALSE
      push(make(Kind::boolean));
      top()->integer = code == 0x88;
      return true;
    case 'K':
      push_integer(static_cast<std::int64_t>(unsigned_integer(1)));
      return true;  // BININT1
    case 'M':
      push_integer(static_cast<std::int64_t>(unsigned_integer(2)));
      return true;  // BININT2
    case 'J':
      push_integer(static_cast<std::int32_t>(unsigned_integer(4)));
      return true;  // BININT
    case 0x8a: {    // LONG1, little-endian two's complement
      const std::uint64_t count = unsigned_integer(1);
      if (count > 8) {
        take(count);
        push(make(Kind::opaque));
      } else if (count == 0) {
        push_integer(0);
      } else {
        const std::uint64_t unused = 64 - 8 * count;
        push_integer(std::bit_cast<std::int64_t>(unsigned_integer(count) << unused) >> unused);
      }
      return true;
    }
    case 'G': {  // BINFLOAT, big-endian
      push(make(Kind::real));
      std::uint64_t bits = 0;
      for (const char byte : take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
      top()->real = std::bit_cast<double>(bits);
      return true;
    }
    case 'X':
      push_text(take(unsigned_integer(4)));
      return true;  // BINUNICODE
    case 0x8c:
      push_text(take(unsigned_integer(1)));
      return true;  // SHORT_BINUNICODE
    case 0x8d:
      push_text(take(unsigned_integer(8)));
      return true;  // BINUNICODE8
    case 'U':
      push_text(take(unsigned_integer(1)));
      return true;  // SHORT_BINSTRING, how Python 2 wrote text
    case 'T':
      push_text(take(unsigned_integer(4)));
      return true;  // BINSTRING
    case 'C':
      push_text(take(unsigned_integer(1)), Kind::opaque);
      return true;  // SHORT_BINBYTES
    case 'B':
      push_text(take(unsigned_integer(4)), Kind::opaque);
      return true;  // BINBYTES
    case ')':
      push(make(Kind::tuple));
      return true;  // EMPTY_TUPLE
    case 't':
      tuple(pop_mark());
      return true;  // TUPLE
    case 0x85:      // TUPLE1
    case 0x86:      // TUPLE2
    case 0x87: {    // TUPLE3
      const std::size_t count = code - 0x84u;
      check(stack_.size() >= count, "{}: the pickle takes more values than there are at byte {}", where_, at);
      tuple(stack_.size() - count);
      return true;
    }
    case ']':
      push(make(Kind::list));
      return true;  // EMPTY_LIST
    case 'a':       // APPEND
    case 'e':
      append(code == 'e' ? pop_mark() : stack_.size() - 1);
      return true;  // APPENDS
    case '}':
      push(make(Kind::dict));
      return true;  // EMPTY_DICT
    case 's':       // SETITEM
    case 'u':
      set_items(code == 'u' ? pop_mark() : stack_.size() - 2);
      return true;  // SETITEMS
    case 'q':
      memoize(unsigned_integer(1));
      return true;  // BINPUT
    case 'r':
      memoize(unsigned_integer(4));
      return true;  // LONG_BINPUT
    case 0x94:
      memoize(memo_.size());
      return true;  // MEMOIZE
    case 'h':
      recall(unsigned_integer(1));
      return true;  // BINGET
    case 'j':
      recall(unsigned_integer(4));
      return true;  // LONG_BINGET
    case 'c': {     // GLOBAL
      const std::string module(line());
      global(module + "." + std::string(line()));
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const std::string name = pop()->text;
      global(pop()->text + "." + name);
      return true;
    }
    case 'Q': {  // BINPERSID
      const Value* id = pop();
      check(id->kind == Kind::tuple, "{}: expected a storage at byte {}, got another reference", where_, at);
      Value* storage = make(Kind::storage);
      storage->items = id->items;
      storages_.push_back(storage);
      push(storage);
      return true;
    }
    case 'R':
      reduce();
      return true;  // REDUCE
    case 'b':
      build();
      return true;  // BUILD
    default:
      fail("{}: the pickle uses opcode 0x{:02x} at byte {}, which no state dict needs: nothing was executed", where_,
           code, at);
  }
}

void Pickle::tuple(std::size_t first) {
  Value* value = make(Kind::tuple);
  value->items.assign(stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
  stack_.resize(first);
  push(value);
}

void Pickle::append(std::size_t first) {
  check(first >= 1 && first <= stack_.size() && stack_[first - 1]->kind == Kind::list,
        "{}: the pickle appends to what is no list before byte {}", where_, position_);
  Value* list = stack_[first - 1];
  list->items.insert(list->items.end(), stack_.begin() + static_cast<std::ptrdiff_t>(first), stack_.end());
  stack_.resize(first);
}

void Pickle::set_items(std::size_t first) {
  const bool valid =
      first >= 1 && first <= stack_.size() && (stack_.size() - first) % 2 == 0 && stack_[first - 1]->kind == Kind::dict;
  check(valid, "{}: the pickle sets items of what is no dict before byte {}", where_, position_);
  Value* dict = stack_[first - 1];
  for (std::size_t i = first; i < stack_.size(); i += 2) dict->entries.emplace_back(stack_[i], stack_[i + 1]);
  stack_.resize(first);
}

// A call, of which only the value that it would return is built.
void Pickle::reduce() {
  const Value* arguments = pop();
  const Value* function = pop();
  check(function->kind == Kind::global && arguments->kind == Kind::tuple,
        "{}: the pickle calls what is no function before byte {}", where_, position_);
  const std::string& name = function->text;
  if (name == "collections.OrderedDict") {
    Value* dict = make(Kind::dict);
    check(arguments->items.empty(), "{}: an OrderedDict with initial items before byte {} is not supported", where_,
          position_);
    push(dict);
  } else if (name == "torch._utils._rebuild_tensor_v2" || name == "torch._utils._rebuild_tensor") {
    check(arguments->items.size() >= 4, "{}: a tensor is built from {} values before byte {}, expected at least 4",
          where_, arguments->items.size(), position_);
    Value* tensor = make(Kind::tensor);
    tensor->items = arguments->items;
    push(tensor);
  } else if (name == "torch._utils._rebuild_parameter") {
    check(!arguments->items.empty() && arguments->items[0]->kind == Kind::tensor,
          "{}: a parameter before byte {} holds no tensor", where_, position_);
    Value* tensor = make(Kind::tensor);
    tensor->items = arguments->items[0]->items;
    push(tensor);
  } else if (name == "torch.Size") {
    check(arguments->items.size() == 1 && arguments->items[0]->kind == Kind::tuple,
          "{}: a torch.Size before byte {} is not made of a tuple", where_, position_);
    Value* size = make(Kind::tuple);
    size->items = arguments->items[0]->items;
    push(size);
  } else if (name == "torch.device") {
    push(make(Kind::opaque));
  } else {
    fail("{}: the pickle calls '{}' before byte {}, which is no function of a state dict: nothing was executed", where_,
         name, position_);
  }
}

// Sets attributes of an object. A state dict carries its modules' versions that way, which are of no use here.
void Pickle::build() {
  pop();
  check(top()->kind == Kind::dict, "{}: the pickle sets the state of what is no dict before byte {}", where_,
        position_);
}

void Pickle::global(std::string name) {
  check(std::find(kGlobals.begin(), kGlobals.end(), name) != kGlobals.end(),
        "{}: the pickle names '{}' before byte {}, which no state dict needs: nothing was executed", where_, name,
        position_);
  Value* value = make(Kind::global);
  value->text = std::move(name);
  push(value);
}

Pickle::Value* Pickle::make(Kind kind) {
  values_.emplace_back().kind = kind;
  return &values_.back();
}

void Pickle::push_integer(std::int64_t integer) {
  push(make(Kind::integer));
  top()->integer = integer;
}

void Pickle::push_text(std::string_view text, Kind kind) {
  push(make(kind));
  top()->text = text;
}

Pickle::Value* Pickle::top() {
  const std::size_t bottom = marks_.empty() ? 0 : marks_.back();
  check(stack_.size() > bottom, "{}: the pickle takes a value where there is none, before byte {}", where_, position_);
  return stack_.back();
}

Pickle::Value* Pickle::pop() {
  Value* value = top();
  stack_.pop_back();
  return value;
}

std::size_t Pickle::pop_mark() {
  check(!marks_.empty() && marks_.back() <= stack_.size(),
        "{}: the pickle needs a mark before byte {} and there is none", where_, position_);
  const std::size_t first = marks_.back();
  marks_.pop_back();
  return first;
}

std::uint64_t Pickle::unsigned_integer(std::size_t bytes) {
  const std::string_view text = take(bytes);
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(text[i]);
  return value;
}

std::string_view Pickle::take(std::uint64_t count) {
  check(count <= bytes_.size() - position_,
        "{}: the pickle is truncated: {} bytes at byte {} lie beyond its end, it has {}", where_, count, position_,
        bytes_.size());
  const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()) + position_, count);
  position_ += count;
  return taken;
}

std::string_view Pickle::line() {
  const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + position_, bytes_.size() - position_);
  const std::size_t end = rest.find('\n');
  check(end != std::string_view::npos, "{}: the pickle is truncated in a name at byte {}", where_, position_);
  position_ += end + 1;
  return rest.substr(0, end);
}

void Pickle::memoize(std::uint64_t key) { memo_[key] = top(); }

void Pickle::recall(std::uint64_t key) {
  const auto found = memo_.find(key);
  check(found != memo_.end(), "{}: the pickle recalls value {} before byte {}, which was never stored", where_, key,
        position_);
  push(found->second);
}

}  // namespace graft::io
