#include "library/product.h"

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "graft/core/tensor.h"

#include "core/format.h"
#include "library/bias_activation.h"
#include "library/cublas.h"
#include "library/handles.h"
#include "runtime/launches.h"
#include "runtime/on_gpu.h"

namespace graft::cublas {
namespace {

constexpr std::uint64_t kMostWorkspace = std::uint64_t{32} << 20;  // what NVIDIA advises for Hopper

void require(cublasStatus_t status, std::string_view what) {
  check(status == CUBLAS_STATUS_SUCCESS, "[cublas] {}: {}", what, library::cublas().status_string(status));
}

std::optional<cudaDataType_t> type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f64:
      return CUDA_R_64F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return std::nullopt;
  }
}

/// A matrix stored in rows, which cuBLAS, whose matrices are stored in columns, sees transposed.
class Layout {
 public:
  Layout(DType dtype, Index rows, Index columns, Index pitch, Index batch, Index step) {
    require(library::cublas().layout_init(&layout_, sizeof layout_, *type(dtype), static_cast<std::uint64_t>(columns),
                                          static_cast<std::uint64_t>(rows), pitch),
            "a matrix was refused");
    const auto count = static_cast<std::int32_t>(batch);
    const std::int64_t stride = step;
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  cublasLtMatrixLayout_t get() const { return const_cast<cublasLtMatrixLayout_t>(&layout_); }

 private:
  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
    require(library::cublas().layout_set(&layout_, attribute, &value, sizeof value), "a matrix was refused");
  }
  cublasLtMatrixLayoutOpaque_t layout_{};
};

Layout layout_of(const Operand& x, Index rows, Index columns, bool transposed, Index batch, Index step) {
  if (transposed) std::swap(rows, columns);
  return {x.dtype, rows, columns, x.pitch, batch, step};
}

// What cuBLASLt itself does after the product.
std::optional<cublasLtEpilogue_t> epilogue(Activation activation, bool bias) {
  switch (activation) {
    case Activation::linear:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    case Activation::relu:
      return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::gelu_tanh:
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
      return std::nullopt;
  }
}

cublasComputeType_t compute_type(const Context& context, DType dtype) {
  if (dtype == DType::f64) return CUBLAS_COMPUTE_64F;
  return dtype == DType::f32 && context.allow_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// y^T = b^T a^T, as cuBLAS sees the matrices.
struct Description {
  cublasLtMatmulDescOpaque_t operation{};
  Layout a, b, y;

  Description(const Context& context, const Product& p, DType y_type, Index y_pitch, bool fused)
      : a(layout_of(p.a, p.rows, p.depth, p.transpose_a, p.batch, p.step_a)),
        b(layout_of(p.b, p.depth, p.columns, p.transpose_b, p.batch, p.step_b)),
        y(y_type, p.rows, p.columns, y_pitch, p.batch, p.step_y) {
    require(library::cublas().operation_init(&operation, sizeof operation, compute_type(context, p.a.dtype),
                                             p.a.dtype == DType::f64 ? CUDA_R_64F : CUDA_R_32F),
            "a product was refused");
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (!fused) return;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, *epilogue(p.activation, static_cast<bool>(p.bias)));
    if (!p.bias) return;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(p.bias.data));
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, *type(p.bias.dtype));
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    require(library::cublas().operation_set(&operation, attribute, &value, sizeof value), "a product was refused");
  }
};

std::uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  constexpr std::uintptr_t kMost = 256;
  return static_cast<std::uint32_t>(address % kMost == 0 ? kMost : address & (~address + 1));
}

struct Preference {
  cublasLtMatmulPreferenceOpaque_t preference{};

  Preference(const Product& p, const void* y) {
    require(library::cublas().preference_init(&preference, sizeof preference), "no preference could be made");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace);
    // Partial sums of a split depth are added in f32: others would be rounded to halves in between.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b.data));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a.data));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(y));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(y));
  }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    require(library::cublas().preference_set(&preference, attribute, &value, sizeof value), "a preference was refused");
  }
};

}  // namespace

bool fuses(Activation activation) { return epilogue(activation, false).has_value(); }

/// An algorithm, and what it writes: the result, or, where cuBLASLt does not do all that comes after the product, the
/// bare product, in f32 for halves so that it is rounded once.
struct Plan {
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
  bool fused = true;
  bool beside = false;  ///< the bare product has memory of its own
};

namespace {

std::optional<Plan> ask(const Context& context, const Product& p, bool fused) {
  if (fused && !fuses(p.activation)) return std::nullopt;
  const bool beside = !fused && p.y.to.dtype != DType::f32 && p.y.to.dtype != DType::f64;
  const Description d(context, p, beside ? DType::f32 : p.y.to.dtype, beside ? p.columns : p.y.to.pitch, fused);
  const Preference preference(p, beside ? nullptr : p.y.to.data);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = library::cublas().heuristic(
      library::cublas_handle(context), const_cast<cublasLtMatmulDesc_t>(&d.operation), d.b.get(), d.a.get(), d.y.get(),
      d.y.get(), const_cast<cublasLtMatmulPreference_t>(&preference.preference), 1, &found, &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0 || found.state != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  return Plan{found.algo, found.workspaceSize, fused, beside};
}

using Key = std::vector<Index>;

Key key(const Context& context, const Product& p) {
  Key key{context.device.index,
          static_cast<Index>(compute_type(context, p.a.dtype)),
          p.transpose_a,
          p.transpose_b,
          p.rows,
          p.columns,
          p.depth,
          p.batch,
          p.step_a,
          p.step_b,
          p.step_y,
          static_cast<Index>(p.activation),
          p.bias ? static_cast<Index>(p.bias.dtype) : -1,
          p.y.accumulate};
  for (const Operand* x : {&p.a, &p.b, &p.y.to})
    key.insert(key.end(), {static_cast<Index>(x->dtype), x->pitch, alignment_of(x->data)});
  return key;
}

bool possible(const Product& p) {
  return type(p.a.dtype) && p.a.dtype == p.b.dtype && type(p.y.to.dtype) && p.rows > 0 && p.columns > 0 &&
         p.depth > 0 && p.batch > 0;
}

}  // namespace

std::shared_ptr<const Plan> plan_for(const Context& context, const Product& p) {
  if (!possible(p)) return nullptr;
  static std::mutex mutex;
  static auto* const plans = new std::map<Key, std::shared_ptr<const Plan>>;
  Key id = key(context, p);
  const std::lock_guard lock(mutex);
  if (const auto found = plans->find(id); found != plans->end()) return found->second;
  const cuda::OnGpu here(context.device.index);
  std::optional<Plan> plan = ask(context, p, /*fused=*/true);
  if (!plan && (p.bias || p.activation != Activation::linear)) plan = ask(context, p, /*fused=*/false);
  return plans->emplace(std::move(id), plan ? std::make_shared<const Plan>(*plan) : nullptr).first->second;
}

void run(Context& context, const char* name, const Plan& plan, const Product& p) {
  const cuda::OnGpu here(context.device.index);
  Tensor product;
  Operand to = p.y.to;
  if (plan.beside) {
    product = Tensor::empty({p.rows, p.columns}, DType::f32, context.device);
    to = product;
  }
  const Description d(context, p, to.dtype, to.pitch, plan.fused);
  const Tensor scratch = Tensor::empty({static_cast<Index>(plan.workspace)}, DType::u8, context.device);
  const float one = 1, more = p.y.accumulate ? 1 : 0;
  const double one_f64 = 1, more_f64 = more;
  const bool f64 = p.a.dtype == DType::f64;
  count_launch(name);
  require(library::cublas().matmul(library::cublas_handle(context), const_cast<cublasLtMatmulDesc_t>(&d.operation),
                                   f64 ? static_cast<const void*>(&one_f64) : &one, p.b.data, d.b.get(), p.a.data,
                                   d.a.get(), f64 ? static_cast<const void*>(&more_f64) : &more, to.data, d.y.get(),
                                   to.data, d.y.get(), &plan.algorithm, scratch.raw(), plan.workspace,
                                   static_cast<cudaStream_t>(context.stream.handle())),
          "a product failed");
  if (!plan.fused) library::bias_activation(context, to, p.bias, p.activation, p.y.to);
}

}  // namespace graft::cublas
