#include "cpu/onednn/engine.h"

#include <string_view>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/format.h"
#include "core/packed.h"
#include "core/scratch.h"

namespace graft::kernels::onednn {
namespace {

dnnl::stream& stream() {
  thread_local dnnl::stream one(engine());
  return one;
}

}  // namespace

dnnl::engine& engine() {
  static auto* const one =
      new dnnl::engine(dnnl::engine::kind::cpu, 0);  // never destroyed: threads' streams may outlive statics
  return *one;
}

#ifdef _OPENMP
ThreadBudget::ThreadBudget() : previous_(omp_get_max_threads()) {
  if (previous_ != threads()) omp_set_num_threads(threads());
}
ThreadBudget::~ThreadBudget() {
  if (previous_ != omp_get_max_threads()) omp_set_num_threads(previous_);
}
#else
ThreadBudget::ThreadBudget() : previous_(1) {}
ThreadBudget::~ThreadBudget() = default;
#endif

memory::data_type type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return memory::data_type::f32;
    case DType::bf16:
      return memory::data_type::bf16;
    case DType::i32:
      return memory::data_type::s32;
    case DType::u8:
      return memory::data_type::u8;
    default:
      return memory::data_type::undef;
  }
}

memory::desc image(const Operand& x) {
  const Index height = x.shape[1], width = x.shape[2];
  return {
      {x.shape[0], x.shape[3], height, width}, type(x.dtype), {height * width * x.pitch, 1, width * x.pitch, x.pitch}};
}

memory::desc dense(const memory::dims& dims, memory::data_type type) {
  memory::dims strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  return {dims, type, strides};
}

dnnl::memory at(const memory::desc& desc, const void* data) { return {desc, engine(), const_cast<void*>(data)}; }

bool append_activation(dnnl::post_ops& ops, Activation activation) {
  using dnnl::algorithm;
  switch (activation) {
    case Activation::linear:
      return true;
    case Activation::relu:
      ops.append_eltwise(1, algorithm::eltwise_relu, 0, 0);
      return true;
    case Activation::relu6:
      ops.append_eltwise(1, algorithm::eltwise_clip, 0, 6);
      return true;
    case Activation::sigmoid:
      ops.append_eltwise(1, algorithm::eltwise_logistic, 0, 0);
      return true;
    case Activation::tanh:
      ops.append_eltwise(1, algorithm::eltwise_tanh, 0, 0);
      return true;
    case Activation::gelu:
      ops.append_eltwise(1, algorithm::eltwise_gelu_erf, 0, 0);
      return true;
    case Activation::gelu_tanh:
      ops.append_eltwise(1, algorithm::eltwise_gelu_tanh, 0, 0);
      return true;
    case Activation::silu:
      ops.append_eltwise(1, algorithm::eltwise_swish, 1, 0);
      return true;
  }
  return false;
}

dnnl::primitive_attr attributes(const dnnl::post_ops& ops) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_post_ops(ops);
  return attr;
}

void Step::run(std::unordered_map<int, dnnl::memory> arguments) const {
  const ThreadBudget budget;
  std::shared_ptr<Storage> memory;
  if (scratchpad.get_size() > 0) {
    memory = scratch(scratchpad.get_size());
    arguments.emplace(DNNL_ARG_SCRATCHPAD, at(scratchpad, memory->data()));
  }
  try {
    primitive.execute(stream(), arguments);
    stream().wait();
  } catch (const dnnl::error& error) {
    fail("[onednn] a primitive failed: {}", error.what());
  }
}

Reorder::Reorder(const memory::desc& source, const memory::desc& target, bool accumulate) : from(source), to(target) {
  if (from == to && !accumulate) return;
  dnnl::post_ops sum;
  if (accumulate) sum.append_sum(1);
  // A descriptor is a plain structure in which equal layouts have equal bytes.
  layout = std::string("onednn").append(reinterpret_cast<const char*>(&to.data), sizeof(to.data));
  step = std::make_shared<const Step>(dnnl::reorder::primitive_desc(engine(), from, engine(), to, attributes(sum)));
}

dnnl::memory Reorder::packed(const Operand& source, std::shared_ptr<const Storage>& keep_alive) const {
  if (step == nullptr) return at(from, source.data);
  keep_alive = graft::packed(source, layout, to.get_size(), [&](void* target) {
    step->run({{DNNL_ARG_FROM, at(from, source.data)}, {DNNL_ARG_TO, at(to, target)}});
  });
  return at(to, keep_alive->data());
}

dnnl::memory Reorder::unpacked(void* target, Tensor& buffer) const {
  if (step == nullptr) return at(from, target);
  buffer = Tensor::empty({static_cast<Index>(from.get_size())}, DType::u8);
  return at(from, buffer.raw());
}

void Reorder::finish(const dnnl::memory& written, void* target) const {
  if (step != nullptr) step->run({{DNNL_ARG_FROM, written}, {DNNL_ARG_TO, at(to, target)}});
}

bool is_fast(const dnnl::primitive_desc_base& description) {
  if (!description) return false;
  const char* text = nullptr;
  const dnnl_status_t status = dnnl_primitive_desc_query(description.get(), dnnl_query_impl_info_str, 0, &text);
  return status == dnnl_success && !std::string_view(text).starts_with("ref");
}

void append(Key& key, const WindowGeometry& g) {
  key.insert(key.end(), {g.batch, g.height, g.width, g.channels, g.kernel_height, g.kernel_width, g.stride_height,
                         g.stride_width, g.dilation_height, g.dilation_width, g.pad_top, g.pad_left, g.pad_bottom,
                         g.pad_right, g.out_height, g.out_width});
}

void append(Key& key, const Operand& x) {
  key.push_back(x ? static_cast<Index>(x.dtype) : -1);
  key.push_back(x ? x.pitch : 0);
}

}  // namespace graft::kernels::onednn
