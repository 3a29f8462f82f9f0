#include "io/pytorch.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>

#include "core/format.h"
#include "io/checked_shape.h"
#include "io/pickle.h"

namespace graft::io {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kLongestPickle = std::uint64_t{64} << 20;
constexpr std::string_view kStreamMagic{"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                                        13};  // LONG1, ten bytes, STOP
constexpr std::uint64_t kMagicPlaces[] = {
    2, 11};  // after PROTO and its version, and from protocol 4 on also FRAME and its length
constexpr std::int64_t kStreamVersion = 1001;
constexpr std::uint64_t kLargestExpansion =
    8;  // bytes copied for tensors that are no plain range of their storage, in files
constexpr int kDeepestDict = 4;

struct StorageType {
  std::string_view name;
  std::optional<DType> dtype;
  std::size_t bytes;
};
constexpr std::array<StorageType, 9> kStorageTypes = {{{"torch.FloatStorage", DType::f32, 4},
                                                       {"torch.DoubleStorage", DType::f64, 8},
                                                       {"torch.HalfStorage", DType::f16, 2},
                                                       {"torch.BFloat16Storage", DType::bf16, 2},
                                                       {"torch.LongStorage", DType::i64, 8},
                                                       {"torch.IntStorage", DType::i32, 4},
                                                       {"torch.ByteStorage", DType::u8, 1},
                                                       {"torch.BoolStorage", DType::u8, 1},
                                                       {"torch.CharStorage", std::nullopt, 1}}};

// A reference to a storage, ('storage', type, key, device, elements).
struct StorageReference {
  StorageType type;
  std::string key;
  std::uint64_t elements;
};

StorageReference storage_reference(const std::string& where, const PickleValue& value) {
  const auto& items = value.items;
  const bool valid = value.kind == Kind::storage && items.size() >= 5 && items[0]->text == "storage" &&
                     items[1]->kind == Kind::global &&
                     (items[2]->kind == Kind::text || items[2]->kind == Kind::integer) &&
                     items[4]->kind == Kind::integer && items[4]->integer >= 0;
  check(valid, "{}: expected a reference to a storage", where);
  const auto type = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                 [&](const StorageType& t) { return t.name == items[1]->text; });
  check(type != kStorageTypes.end(), "{}: expected a storage of a known type, got {}", where, items[1]->text);
  const auto elements = static_cast<std::uint64_t>(items[4]->integer);
  check(elements <= INT64_MAX / type->bytes, "{}: a storage of {} elements is more than can be counted", where,
        elements);
  return {*type, items[2]->kind == Kind::text ? items[2]->text : std::to_string(items[2]->integer), elements};
}

std::vector<Index> sizes(const std::string& where, const PickleValue& tuple) {
  check(tuple.kind == Kind::tuple && tuple.items.size() <= static_cast<std::size_t>(Shape::kMaxRank),
        "{}: expected at most {} sizes", where, Shape::kMaxRank);
  std::vector<Index> result;
  for (const PickleValue* item : tuple.items) {
    check(item->kind == Kind::integer && item->integer >= 0, "{}: a size or stride is no number or negative", where);
    result.push_back(item->integer);
  }
  return result;
}

bool is_dense(const Shape& shape, const std::vector<Index>& strides) {
  Index expected = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] != 1 && strides[static_cast<std::size_t>(axis)] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

// Position of the last element that the strides reach, plus one. Throws Error if that is beyond 63 bits.
Index reach(const std::string& where, const Shape& shape, const std::vector<Index>& strides, Index offset) {
  Index last = offset;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    Index step = 0;
    const bool overflow = __builtin_mul_overflow(shape[axis] - 1, strides[static_cast<std::size_t>(axis)], &step) ||
                          __builtin_add_overflow(last, step, &last);
    check(!overflow && last < INT64_MAX, "{}: the strides reach further than can be counted", where);
  }
  return last + 1;
}

template <class T>
void gather(const T* source, const Shape& shape, const std::vector<Index>& strides, T* target) {
  std::vector<Index> at(static_cast<std::size_t>(shape.rank()), 0);
  for (Index i = 0, count = shape.elements(); i < count; ++i) {
    Index position = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) position += at[axis] * strides[axis];
    target[i] = source[position];
    for (int axis = shape.rank() - 1; axis >= 0 && ++at[static_cast<std::size_t>(axis)] == shape[axis]; --axis)
      at[static_cast<std::size_t>(axis)] = 0;
  }
}

// Turns the tensors of a pickle into Tensors. Where the elements are depends on the format: `load` fills a storage.
class TensorReader {
 public:
  using Load = std::function<void(const StorageReference&, std::span<std::byte>)>;
  /// `available`: bytes of the file; no storage can be larger.
  TensorReader(std::string where, std::uint64_t available, Load load)
      : where_(std::move(where)), available_(available), load_(std::move(load)) {}

  Tensor read(const std::string& name, const PickleValue& value) {
    const std::string where = fmt::format("{}: tensor '{}'", where_, name);
    const StorageReference reference = storage_reference(where, *value.items[0]);
    check(reference.type.dtype.has_value(), "{}: expected f32, f64, f16, bf16, i32, i64 or u8, got {} (quantised?)",
          where, reference.type.name);
    const DType dtype = *reference.type.dtype;
    check(value.items[1]->kind == Kind::integer && value.items[1]->integer >= 0,
          "{}: the offset is no number or negative", where);
    const Index offset = value.items[1]->integer;
    const std::vector<Index> extents = sizes(where, *value.items[2]), strides = sizes(where, *value.items[3]);
    check(extents.size() == strides.size(), "{}: {} sizes and {} strides", where, extents.size(), strides.size());
    const Shape shape = checked_shape(where, extents);
    if (shape.elements() == 0) return Tensor::empty(shape, dtype);
    const Index end = reach(where, shape, strides, offset);
    check(static_cast<std::uint64_t>(end) <= reference.elements, "{}: reaches element {} of a storage of {}", where,
          end, reference.elements);

    const std::shared_ptr<Storage> storage = this->storage(where, reference);
    const std::size_t offset_bytes = static_cast<std::size_t>(offset) * size_of(dtype);
    if (is_dense(shape, strides)) return Tensor::over(storage, offset_bytes, shape, dtype);
    return dense_copy(where, storage->data() + offset_bytes, shape, strides, dtype);
  }

 private:
  std::shared_ptr<Storage> storage(const std::string& where, const StorageReference& reference) {
    const std::uint64_t bytes = reference.elements * reference.type.bytes;
    auto& storage = storages_[reference.key];
    if (storage == nullptr) {
      check(bytes / kLargestDeflateRatio <= available_,
            "{}: its storage '{}' of {} bytes is more than the file can hold", where, reference.key, bytes);
      auto loaded = Storage::allocate(bytes);
      load_(reference, {loaded->data(), bytes});
      storage = std::move(loaded);
    }
    check(storage->bytes() == bytes, "{}: the storage '{}' has {} bytes here and {} elsewhere", where, reference.key,
          bytes, storage->bytes());
    return storage;
  }

  // Strides of zero can make much of little, so what is copied is limited by the size of the file.
  Tensor dense_copy(const std::string& where, const std::byte* source, const Shape& shape,
                    const std::vector<Index>& strides, DType dtype) {
    const auto elements = static_cast<std::uint64_t>(shape.elements());
    const std::uint64_t left = available_ * kLargestExpansion - copied_;
    check(elements <= left / size_of(dtype), "{}: {} {} repeats its elements to more than {} times the file", where,
          dtype, shape, kLargestExpansion);
    Tensor copy = Tensor::empty(shape, dtype);
    copied_ += copy.bytes();
    switch (size_of(dtype)) {
      case 1:
        gather(reinterpret_cast<const std::uint8_t*>(source), shape, strides, static_cast<std::uint8_t*>(copy.raw()));
        break;
      case 2:
        gather(reinterpret_cast<const std::uint16_t*>(source), shape, strides, static_cast<std::uint16_t*>(copy.raw()));
        break;
      case 4:
        gather(reinterpret_cast<const std::uint32_t*>(source), shape, strides, static_cast<std::uint32_t*>(copy.raw()));
        break;
      default:
        gather(reinterpret_cast<const std::uint64_t*>(source), shape, strides, static_cast<std::uint64_t*>(copy.raw()));
        break;
    }
    return copy;
  }

  std::string where_;
  std::uint64_t available_;
  Load load_;
  std::map<std::string, std::shared_ptr<Storage>> storages_;
  std::uint64_t copied_ = 0;
};

bool holds_tensors(const PickleValue& dict) {
  return std::any_of(dict.entries.begin(), dict.entries.end(),
                     [](const auto& entry) { return entry.second->kind == Kind::tensor; });
}

// The state dict itself, or where a training checkpoint keeps it.
const PickleValue& find_state_dict(const std::string& where, const PickleValue& root, int depth = 0) {
  check(root.kind == Kind::dict, "{}: expected a dict of tensors: save model.state_dict(), not the model", where);
  if (holds_tensors(root)) return root;
  for (const std::string_view key :
       {"state_dict", "model_state_dict", "model_state", "model", "net", "params", "weights"}) {
    const PickleValue* inner = root.find(key);
    if (inner != nullptr && inner->kind == Kind::dict && depth < kDeepestDict)
      return find_state_dict(where, *inner, depth + 1);
  }
  std::string keys;
  for (const auto& [key, value] : root.entries) {
    if (key->kind == Kind::text && keys.size() < 200) keys += (keys.empty() ? "" : ", ") + key->text;
  }
  fail("{}: expected a dict of tensors, or one under state_dict or model, got the keys: {}", where,
       keys.empty() ? "none" : keys);
}

WeightFile read_state_dict(const std::string& where, const PickleValue& root, TensorReader& reader) {
  const PickleValue& dict = find_state_dict(where, root);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [key, value] : dict.entries) {
    if (value->kind != Kind::tensor) continue;  // epochs, learning rates
    check(key->kind == Kind::text, "{}: a tensor's key is no text", where);
    tensors.emplace_back(key->text, reader.read(key->text, *value));
  }
  WeightFile result;
  result.format = "pytorch";
  result.layers = group_by_last_dot(std::move(tensors));
  return result;
}

// Where the stream goes on after its magic number; 0 if that is not what the file starts with.
std::uint64_t stream_start(const InputFile& file) {
  for (const std::uint64_t place : kMagicPlaces) {
    if (file.size() < place + kStreamMagic.size()) continue;
    const std::vector<std::byte> start = file.read(0, place + kStreamMagic.size());
    const std::string_view magic(reinterpret_cast<const char*>(start.data()) + place, kStreamMagic.size());
    if (start[0] == std::byte{0x80} && magic == kStreamMagic) return start.size();
  }
  return 0;
}

}  // namespace

std::vector<WeightLayer> group_by_last_dot(std::vector<std::pair<std::string, Tensor>> tensors) {
  constexpr std::string_view kParallel = "module.";  // what torch.nn.DataParallel puts before every key
  const bool parallel = !tensors.empty() && std::all_of(tensors.begin(), tensors.end(),
                                                        [&](const auto& t) { return t.first.starts_with(kParallel); });
  std::vector<WeightLayer> layers;
  std::map<std::string, std::size_t> index;
  for (auto& [key, tensor] : tensors) {
    const std::string name = parallel ? key.substr(kParallel.size()) : key;
    const std::size_t dot = name.rfind('.');
    const std::string owner =
        name.substr(0, dot);  // a key without a dot, such as ViT's cls_token, is a layer of its own
    const auto [found, added] = index.emplace(owner, layers.size());
    if (added) {
      layers.emplace_back();
      layers.back().name = layers.back().path = owner;
    }
    layers[found->second].tensors.push_back(
        {name.substr(dot == std::string::npos ? 0 : dot + 1), std::move(tensor), key});
  }
  return layers;
}

WeightFile read_pytorch_zip(const ZipArchive& archive) {
  const std::string where = "[pytorch] " + archive.file();
  // All members lie in one folder, named after the file as it was first saved.
  const auto& members = archive.members();
  const auto pickle_member = std::find_if(members.begin(), members.end(), [](const auto& m) {
    return m.name == "data.pkl" || m.name.ends_with("/data.pkl");
  });
  check(pickle_member != members.end(), "{}: expected a member data.pkl", where);
  const std::string folder =
      pickle_member->name.substr(0, pickle_member->name.size() - std::string_view("data.pkl").size());
  if (archive.find(folder + "byteorder")) {
    const std::string order = archive.text(folder + "byteorder", 16);
    check(order == "little", "{}: expected byte order 'little', got '{}'", where, order);
  }
  const std::string text = archive.text(pickle_member->name, kLongestPickle);
  const Pickle pickle(where, std::as_bytes(std::span(text)));
  std::map<std::string, const ZipArchive::Member*> storages;
  std::uint64_t available = 0;
  for (const auto& member : members) {
    storages.emplace(member.name, &member);
    available += member.bytes;
  }
  TensorReader reader(where, available, [&](const StorageReference& storage, std::span<std::byte> into) {
    const auto member = storages.find(folder + "data/" + storage.key);
    check(member != storages.end(), "{}: expected a member '{}data/{}'", where, folder, storage.key);
    archive.read(*member->second, into);
  });
  return read_state_dict(where, pickle.value(), reader);
}

bool is_pytorch_stream(const InputFile& file) { return stream_start(file) > 0; }

WeightFile read_pytorch_stream(const InputFile& file) {
  const std::string where = "[pytorch] " + file.path().string();
  // The pickles' lengths are not written anywhere: they end where their STOP is.
  const std::vector<std::byte> start = file.read(0, std::min(file.size(), kLongestPickle));
  std::uint64_t position = stream_start(file);
  const auto next = [&] {
    Pickle pickle(where, std::span(start).subspan(position));
    position += pickle.size();
    return pickle;
  };
  const Pickle version = next();
  check(version.value().kind == Kind::integer && version.value().integer == kStreamVersion,
        "{}: expected version {} of the stream", where, kStreamVersion);
  const Pickle machine = next();
  const PickleValue* little_endian = machine.value().find("little_endian");
  check(little_endian != nullptr && little_endian->integer == 1, "{}: expected little-endian numbers", where);
  const Pickle pickle = next();
  const Pickle keys = next();

  // Each storage is its number of elements, then these. How wide they are only the references in the dict tell.
  std::map<std::string, std::size_t> widths;
  for (const PickleValue* storage : pickle.storages()) {
    const StorageReference reference = storage_reference(where, *storage);
    widths[reference.key] = reference.type.bytes;
  }
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> places;  // offset and bytes
  check(keys.value().kind == Kind::list, "{}: expected the list of storages after the dict", where);
  for (const PickleValue* key : keys.value().items) {
    const auto width = widths.find(key->text);
    check(width != widths.end(), "{}: the storage '{}' is not used by the dict", where, key->text);
    std::int64_t elements = 0;
    file.read(position, std::as_writable_bytes(std::span(&elements, 1)));
    position += sizeof elements;
    const std::uint64_t left = file.size() - position;
    check(elements >= 0 && static_cast<std::uint64_t>(elements) <= left / width->second,
          "{}: the storage '{}' says it has {} elements, {} bytes are left", where, key->text, elements, left);
    const std::uint64_t bytes = static_cast<std::uint64_t>(elements) * width->second;
    places[key->text] = {position, bytes};
    position += bytes;
  }
  TensorReader reader(where, file.size(), [&](const StorageReference& storage, std::span<std::byte> into) {
    const auto place = places.find(storage.key);
    check(place != places.end(), "{}: there is no storage '{}'", where, storage.key);
    check(place->second.second == into.size(), "{}: expected {} bytes in the storage '{}', got {}", where, into.size(),
          storage.key, place->second.second);
    file.read(place->second.first, into);
  });
  return read_state_dict(where, pickle.value(), reader);
}

}  // namespace graft::io
