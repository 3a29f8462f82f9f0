#include "io/hdf5.h"

#define H5_USE_110_API  // later libraries keep the functions of 1.10 behind this
#include <hdf5.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

#include "graft/io/file.h"

#include "core/format.h"
#include "io/checked_shape.h"
#include "io/zip.h"

namespace graft::io {
namespace {

static_assert(sizeof(hid_t) == sizeof(std::int64_t));

constexpr int kDeepestGroup = 64;
constexpr std::uint64_t kSmall = 1 << 16;  // a dataset below this harms nobody, whatever it declares

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

// What the library says of the last failure, from where it happened. To be asked before the next call, which forgets it.
std::string library_message() {
  std::string message;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
        auto& text = *static_cast<std::string*>(out);
        if (text.empty() && error->desc != nullptr) text = error->desc;
        return 0;
      },
      &message);
  return message.empty() ? "the HDF5 library gives no reason" : message;
}

// An identifier of the library, closed with its scope.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle& operator=(Handle&&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// Natural order: runs of digits compare as numbers, so conv2d_2 comes before conv2d_10.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const auto run = [&](const std::string& text, std::size_t& at) {
        while (at < text.size() && text[at] == '0') ++at;
        const std::size_t begin = at;
        while (at < text.size() && digit(text[at])) ++at;
        return std::string_view(text).substr(begin, at - begin);
      };
      const std::string_view x = run(a, i), y = run(b, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j || (a.size() - i == b.size() - j && a < b);
}

hid_t open_file(const std::string& name, hid_t access) {
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(access, false, true);  // a reader of a finished file needs no lock, and network file systems may not give one
#endif
  const hid_t file = H5Fopen(name.c_str(), H5F_ACC_RDONLY, access);
  if (file < 0) fail("[hdf5] {}: cannot be read: {}", name, library_message());
  return file;
}

Handle file_access() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are thrown, not printed
  H5PLset_loading_state(0);                     // a file must not make the library load a plugin
  return {H5Pcreate(H5P_FILE_ACCESS), H5Pclose};
}

// The type in which elements are read, for the types of the file that graft knows.
struct ElementType {
  DType dtype;
  Handle memory;
};

Handle half_type(H5T_order_t order) {
  Handle half(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(half, 15, 10, 5, 0, 10);
  H5Tset_size(half, 2);
  H5Tset_ebias(half, 15);
  H5Tset_order(half, order);
  return half;
}

std::string describe(hid_t type) {
  const std::size_t bits = 8 * H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: return fmt::format("{}signed {}-bit integers{}", H5Tget_sign(type) == H5T_SGN_NONE ? "un" : "", bits, bits == 8 ? " (quantised?)" : "");
    case H5T_FLOAT: return fmt::format("{}-bit floats of an unknown form", bits);
    case H5T_STRING: return "strings";
    case H5T_OPAQUE: return fmt::format("opaque elements of {} bits", bits);
    case H5T_COMPOUND: return "compound elements";
    case H5T_ENUM: return "enumerated elements";
    case H5T_VLEN: return "elements of varying length";
    case H5T_REFERENCE: return "references";
    default: return "elements of an unknown class";
  }
}

ElementType element_type(const std::string& where, hid_t type, const std::vector<std::string>& dtype_attribute) {
  if (H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0) return {DType::f32, {H5Tcopy(H5T_NATIVE_FLOAT), H5Tclose}};
  if (H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F64BE) > 0) return {DType::f64, {H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose}};
  if (H5Tequal(type, H5T_STD_I32LE) > 0 || H5Tequal(type, H5T_STD_I32BE) > 0) return {DType::i32, {H5Tcopy(H5T_NATIVE_INT32), H5Tclose}};
  if (H5Tequal(type, H5T_STD_I64LE) > 0 || H5Tequal(type, H5T_STD_I64BE) > 0) return {DType::i64, {H5Tcopy(H5T_NATIVE_INT64), H5Tclose}};
  if (H5Tequal(type, H5T_STD_U8LE) > 0 || H5Tequal(type, H5T_STD_U8BE) > 0) return {DType::u8, {H5Tcopy(H5T_NATIVE_UINT8), H5Tclose}};
  for (const H5T_order_t order : {H5T_ORDER_LE, H5T_ORDER_BE}) {
    if (H5Tequal(type, half_type(order)) > 0) return {DType::f16, half_type(H5T_ORDER_LE)};
  }
  // HDF5 has no bf16: Keras stores its two bytes as they are and says so in an attribute.
  const bool bf16 = dtype_attribute == std::vector<std::string>{"bfloat16"} && H5Tget_class(type) == H5T_OPAQUE && H5Tget_size(type) == 2;
  if (bf16) return {DType::bf16, {H5Tcopy(type), H5Tclose}};
  fail("{}: expected f32, f64, f16, bf16, i32, i64 or u8, got {}", where, describe(type));
}

Shape dataset_shape(const std::string& where, hid_t space) {
  const H5S_class_t form = H5Sget_simple_extent_type(space);
  check(form == H5S_SCALAR || form == H5S_SIMPLE, "{}: the dataset has no extent", where);
  const int rank = H5Sget_simple_extent_ndims(space);
  check(rank >= 0 && rank <= Shape::kMaxRank, "{}: expected at most {} axes, got {}", where, Shape::kMaxRank, rank);
  hsize_t extents[Shape::kMaxRank] = {};
  H5Sget_simple_extent_dims(space, extents, nullptr);
  std::vector<Index> signed_extents;
  for (int axis = 0; axis < rank; ++axis) {
    check(std::in_range<Index>(extents[axis]), "{}: an extent of {} is more than can be counted", where, extents[axis]);
    signed_extents.push_back(static_cast<Index>(extents[axis]));
  }
  return checked_shape(where, signed_extents);
}

// A few bytes can declare any shape, and the library would allocate and zero it. So what is declared must be in proportion to what is stored: the same if
// stored as it is, at most what deflate can expand if filtered.
void check_storage(const std::string& where, hid_t dataset, std::uint64_t declared, std::size_t element_bytes, std::uint64_t file_bytes) {
  const Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  const H5D_layout_t layout = H5Pget_layout(creation);
  check(layout == H5D_COMPACT || layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED, "{}: the dataset is virtual, its values are in other files", where);
  check(H5Pget_external_count(creation) == 0, "{}: the dataset is external, its values are in other files", where);
  const std::uint64_t stored = H5Dget_storage_size(dataset);
  check(stored <= file_bytes, "{}: the dataset says that {} bytes are stored, the file has {}", where, stored, file_bytes);
  if (layout != H5D_CHUNKED) {
    check(stored == declared, "{}: the shape takes {} bytes, {} are stored", where, declared, stored);
    return;
  }
  const int filters = H5Pget_nfilters(creation);
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0;
    std::size_t values = 0;
    char stored_name[64] = "";
    const H5Z_filter_t filter = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr, sizeof stored_name, stored_name, nullptr);
    const bool known = filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32;
    check(known, "{}: expected the filters deflate, shuffle or fletcher32, got filter {} '{}'", where, static_cast<int>(filter), stored_name);
  }
  hsize_t chunk[Shape::kMaxRank] = {};
  const int rank = H5Pget_chunk(creation, Shape::kMaxRank, chunk);
  std::uint64_t chunk_bytes = element_bytes;
  for (int axis = 0; axis < std::min(rank, Shape::kMaxRank); ++axis) {
    check(!__builtin_mul_overflow(chunk_bytes, chunk[axis], &chunk_bytes), "{}: a chunk has more bytes than can be counted", where);
  }
  const std::uint64_t largest = std::max(declared, chunk_bytes);
  check(largest <= kSmall || largest / kLargestDeflateRatio <= stored, "{}: the shape takes {} bytes in chunks of {}, {} are stored: more than compression can do",
        where, declared, chunk_bytes, stored);
}

// Texts of a fixed width: one that fills it has no terminator.
std::string trimmed(const char* text, std::size_t width, H5T_str_t padding) {
  std::string_view view(text, width);
  if (padding == H5T_STR_SPACEPAD) {
    const std::size_t last = view.find_last_not_of(' ');
    return std::string(view.substr(0, last == std::string_view::npos ? 0 : last + 1));
  }
  return std::string(view.substr(0, view.find('\0')));
}

std::vector<std::string> read_varying(const std::string& where, hid_t attribute, hid_t type, hid_t space, std::size_t count) {
  const Handle memory(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(memory, H5T_VARIABLE);
  H5Tset_cset(memory, H5Tget_cset(type));
  std::vector<char*> texts(count, nullptr);
  if (H5Aread(attribute, memory, texts.data()) < 0) fail("{}: cannot be read: {}", where, library_message());
  std::vector<std::string> result;
  for (const char* text : texts) result.emplace_back(text == nullptr ? "" : text);
  H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts.data());
  return result;
}

std::vector<std::string> read_fixed(const std::string& where, hid_t attribute, hid_t type, std::size_t count, std::uint64_t file_bytes) {
  const std::size_t width = H5Tget_size(type);
  check(width > 0 && count <= file_bytes / width, "{}: {} texts of {} bytes are more than the file holds", where, count, width);
  std::vector<char> bytes(count * width);
  if (H5Aread(attribute, type, bytes.data()) < 0) fail("{}: cannot be read: {}", where, library_message());
  std::vector<std::string> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(trimmed(bytes.data() + i * width, width, H5Tget_strpad(type)));
  return result;
}

}  // namespace

Hdf5File::Hdf5File(const std::filesystem::path& path) : lock_(library_mutex()), name_(path.string()), file_bytes_(InputFile(path).size()) {
  file_ = open_file(name_, file_access());
}

Hdf5File::Hdf5File(std::string name, std::vector<std::byte> image) : lock_(library_mutex()), name_(std::move(name)), file_bytes_(image.size()) {
  const Handle access = file_access();
  const bool accepted = !image.empty() && H5Pset_fapl_core(access, kSmall, false) >= 0 && H5Pset_file_image(access, image.data(), image.size()) >= 0;
  check(accepted, "[hdf5] {}: cannot be read from memory", name_);
  image = {};  // the library has a copy
  file_ = open_file(name_, access);
}

Hdf5File::~Hdf5File() { H5Fclose(file_); }

// Follows a path link by link, so that none leads out of the file.
bool Hdf5File::exists(const std::string& path) const {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string part = path.substr(0, end);
    if (H5Lexists(file_, part.c_str(), H5P_DEFAULT) <= 0) return false;
    H5L_info_t link;
    if (H5Lget_info(file_, part.c_str(), &link, H5P_DEFAULT) < 0) fail("[hdf5] {}: /{}: the link cannot be read: {}", name_, part, library_message());
    check(link.type == H5L_TYPE_HARD, "[hdf5] {}: /{}: expected an object, got a {} link, which may lead anywhere", name_, part,
          link.type == H5L_TYPE_SOFT ? "soft" : link.type == H5L_TYPE_EXTERNAL ? "external" : "user-defined");
    begin = end + 1;
  }
  return true;
}

Hdf5File::Kind Hdf5File::kind(const std::string& path) const {
  if (path.empty()) return Kind::group;
  if (!exists(path)) return Kind::none;
  const Handle object(H5Oopen(file_, path.c_str(), H5P_DEFAULT), H5Oclose);
  if (object < 0) fail("[hdf5] {}: /{}: cannot be opened: {}", name_, path, library_message());
  const H5I_type_t type = H5Iget_type(object);
  check(type == H5I_GROUP || type == H5I_DATASET, "[hdf5] {}: /{}: expected a group or a dataset, got another object", name_, path);
  return type == H5I_GROUP ? Kind::group : Kind::dataset;
}

void Hdf5File::list(const std::string& group, int depth, std::set<std::uint64_t>& seen, std::vector<Object>& objects) const {
  check(depth <= kDeepestGroup, "[hdf5] {}: /{}: groups lie deeper than {}", name_, group, kDeepestGroup);
  const Handle object(H5Gopen2(file_, group.empty() ? "/" : group.c_str(), H5P_DEFAULT), H5Gclose);
  H5O_info_t info;
  if (object < 0 || H5Oget_info(object, &info) < 0) fail("[hdf5] {}: /{}: cannot be opened: {}", name_, group, library_message());
  check(seen.insert(info.addr).second, "[hdf5] {}: /{}: the group can be reached in two ways, groups may form a ring", name_, group);

  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  if (H5Literate(object, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect, &names) < 0) fail("[hdf5] {}: /{}: cannot be listed: {}", name_, group, library_message());
  std::sort(names.begin(), names.end(), natural_less);
  for (const std::string& name : names) {
    const std::string path = group.empty() ? name : group + "/" + name;
    objects.push_back({path, kind(path)});
    if (objects.back().kind == Kind::group) list(path, depth + 1, seen, objects);
  }
}

std::vector<Hdf5File::Object> Hdf5File::objects() const {
  std::set<std::uint64_t> seen;
  std::vector<Object> objects;
  list("", 0, seen, objects);
  return objects;
}

bool Hdf5File::has_attribute(const std::string& path, const char* name) const {
  check(kind(path) != Kind::none, "[hdf5] {}: there is no '/{}'", name_, path);
  const htri_t found = H5Aexists_by_name(file_, path.empty() ? "/" : path.c_str(), name, H5P_DEFAULT);
  if (found < 0) fail("[hdf5] {}: /{}: attribute '{}' cannot be looked for: {}", name_, path, name, library_message());
  return found > 0;
}

std::optional<std::vector<std::string>> Hdf5File::strings(const std::string& path, const char* name) const {
  if (!has_attribute(path, name)) return std::nullopt;
  const std::string where = fmt::format("[hdf5] {}: /{}: attribute '{}'", name_, path, name);
  const Handle attribute(H5Aopen_by_name(file_, path.empty() ? "/" : path.c_str(), name, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (attribute < 0) fail("{}: cannot be opened: {}", where, library_message());
  const Handle type(H5Aget_type(attribute), H5Tclose);
  const Handle space(H5Aget_space(attribute), H5Sclose);
  if (type < 0 || space < 0) fail("{}: cannot be read: {}", where, library_message());
  const hssize_t count = H5Sget_simple_extent_npoints(space);
  if (count <= 0) return std::vector<std::string>{};
  check(H5Tget_class(type) == H5T_STRING, "{}: expected text, got {}", where, describe(type));
  check(static_cast<std::uint64_t>(count) <= file_bytes_, "{}: {} texts are more than the file holds", where, count);
  const auto texts = static_cast<std::size_t>(count);
  return H5Tis_variable_str(type) > 0 ? read_varying(where, attribute, type, space, texts) : read_fixed(where, attribute, type, texts, file_bytes_);
}

std::string Hdf5File::text(const std::string& object, const char* attribute) const {
  const auto texts = strings(object, attribute);
  return texts && !texts->empty() ? texts->front() : std::string();
}

Tensor Hdf5File::dataset(const std::string& path) const {
  const std::string where = fmt::format("[hdf5] {}: /{}", name_, path);
  check(kind(path) == Kind::dataset, "{}: expected a dataset, there is {}", where, kind(path) == Kind::none ? "nothing" : "a group");
  const std::vector<std::string> dtype_attribute = strings(path, "dtype").value_or(std::vector<std::string>{});
  const Handle dataset(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), H5Dclose);
  if (dataset < 0) fail("{}: cannot be opened: {}", where, library_message());
  const Handle type(H5Dget_type(dataset), H5Tclose);
  const Handle space(H5Dget_space(dataset), H5Sclose);
  if (type < 0 || space < 0) fail("{}: cannot be read: {}", where, library_message());
  const auto [dtype, memory] = element_type(where, type, dtype_attribute);
  const Shape shape = dataset_shape(where, space);
  const auto elements = static_cast<std::uint64_t>(shape.elements());
  check(elements <= INT64_MAX / size_of(dtype), "{}: {} {} has more bytes than can be counted", where, dtype, shape);
  if (elements == 0) return Tensor::empty(shape, dtype);
  check_storage(where, dataset, elements * size_of(dtype), size_of(dtype), file_bytes_);
  Tensor tensor = Tensor::empty(shape, dtype);
  if (H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.raw()) < 0) fail("{}: the values cannot be read: {}", where, library_message());
  return tensor;
}

}  // namespace graft::io
