// Matrix products, by cuBLASLt. It counts in columns: row-major y = op(a) op(b) is column-major
// y^T = op(b)^T op(a)^T, and a row-major matrix is its own transpose there, so b comes first.
// Which kernel the library takes for a shape is asked once and kept.
#include "core/ops.h"
#include "cuda/common/gpu.h"

#include <cublasLt.h>

#include <bit>
#include <compare>
#include <map>

namespace ft::cuda {

namespace {

constexpr int64_t kWorkspace = int64_t{32} << 20;  // what the library asks for on Hopper
constexpr int kProduct = 0, kWide = 1;             // slots of the workspace

void check_cublas(cublasStatus_t status, const char* what) {
  FT_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt {} ({}): {}", cublasLtGetVersion(), what,
           cublasLtGetStatusString(status));
}
#define FT_CUBLAS(call) check_cublas((call), #call)

cublasLtHandle_t handle() {
  static cublasLtHandle_t made = [] {
    cublasLtHandle_t h = nullptr;
    FT_CUBLAS(cublasLtCreate(&h));
    return h;
  }();
  return made;
}

cudaDataType_t type_of(Dtype dtype) { return dtype == Dtype::BF16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 that divides the addresses of all rows.
uint32_t alignment_of(const Tensor& t) {
  const auto bits = reinterpret_cast<uintptr_t>(t.data) |
                    static_cast<uintptr_t>(t.stride[0] * size_of(t.dtype)) | 256u;
  return uint32_t{1} << std::countr_zero(bits);
}

struct Key {
  int64_t M, N, K, a_stride, b_stride, c_stride, y_stride;
  uint32_t a_align, b_align, c_align, y_align;
  Dtype in, out;
  bool trans_a, trans_b, adds;
  auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr): its mistake
};

struct Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

cublasLtMatrixLayout_t layout_of(const Tensor& t) {
  cublasLtMatrixLayout_t layout = nullptr;
  FT_CUBLAS(cublasLtMatrixLayoutCreate(&layout, type_of(t.dtype), static_cast<uint64_t>(t.cols()),
                                       static_cast<uint64_t>(t.rows()), t.stride[0]));
  return layout;
}

void set_transposed(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t which, bool yes) {
  const cublasOperation_t op = yes ? CUBLAS_OP_T : CUBLAS_OP_N;
  FT_CUBLAS(cublasLtMatmulDescSetAttribute(product, which, &op, sizeof op));
}

// c: what is added, or y.
Plan make_plan(const ops::Gemm& op, const Tensor& c, const Key& key) {
  Plan plan;
  FT_CUBLAS(cublasLtMatmulDescCreate(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set_transposed(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, op.trans_b);
  set_transposed(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, op.trans_a);
  plan.a = layout_of(op.a), plan.b = layout_of(op.b), plan.c = layout_of(c);
  plan.y = layout_of(op.y);

  cublasLtMatmulPreference_t wish = nullptr;
  FT_CUBLAS(cublasLtMatmulPreferenceCreate(&wish));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    FT_CUBLAS(cublasLtMatmulPreferenceSetAttribute(wish, what, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspace));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_align);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_align);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c_align);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y_align);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle(), plan.product, plan.b, plan.a, plan.c, plan.y, wish, 1, &found, &count);
  cublasLtMatmulPreferenceDestroy(wish);
  FT_CHECK(status == CUBLAS_STATUS_SUCCESS && count > 0,
           "cuBLASLt {} has no kernel for a product of {} x {} x {} ({} to {}): {}",
           cublasLtGetVersion(), key.M, key.N, key.K, name_of(key.in), name_of(key.out),
           cublasLtGetStatusString(status));
  plan.algorithm = found.algo;
  return plan;
}

const Plan& plan_of(const ops::Gemm& op, const Tensor& c, bool adds) {
  static std::map<Key, Plan> plans;
  const Key key{.M = op.y.rows(),
                .N = op.y.cols(),
                .K = op.trans_a ? op.a.rows() : op.a.cols(),
                .a_stride = op.a.stride[0],
                .b_stride = op.b.stride[0],
                .c_stride = c.stride[0],
                .y_stride = op.y.stride[0],
                .a_align = alignment_of(op.a),
                .b_align = alignment_of(op.b),
                .c_align = alignment_of(c),
                .y_align = alignment_of(op.y),
                .in = op.a.dtype,
                .out = op.y.dtype,
                .trans_a = op.trans_a,
                .trans_b = op.trans_b,
                .adds = adds};
  const auto known = plans.find(key);
  return known != plans.end() ? known->second
                              : plans.emplace(key, make_plan(op, c, key)).first->second;
}

void multiply(const ops::Gemm& op, Stream stream) {
  const bool accumulates = op.grad == Grad::Accumulate;
  const Tensor& c = op.residual ? static_cast<const Tensor&>(*op.residual) : op.y;
  const float beta = op.residual || accumulates ? 1.0f : 0.0f;
  const Plan& plan = plan_of(op, c, beta != 0);
  FT_CUBLAS(cublasLtMatmul(handle(), plan.product, &op.alpha, op.b.data, plan.b, op.a.data, plan.a,
                           &beta, c.data, plan.c, op.y.data, plan.y, &plan.algorithm,
                           workspace(stream, kProduct, kWorkspace), static_cast<size_t>(kWorkspace),
                           stream_of(stream)));
}

// The library makes bf16 of bf16 alone.
bool narrows(const ops::Gemm& op) { return op.a.dtype == Dtype::F32 && op.y.dtype != Dtype::F32; }

void multiply_wide(ops::Gemm op, Stream stream) {
  const Tensor y = op.y;
  const Tensor wide(workspace<float>(stream, kWide, y.size()), Dtype::F32, {y.rows(), y.cols()});
  const bool accumulates = op.grad == Grad::Accumulate;
  if (op.residual || accumulates) {
    run(ops::Copy{.y = wide, .x = accumulates ? y : static_cast<const Tensor&>(*op.residual)},
        stream);
    op.grad = Grad::Accumulate, op.residual.reset();
  }
  op.y = Out(wide);
  multiply(op, stream);
  run(ops::Copy{.y = y, .x = wide}, stream);
}

}  // namespace

template <>
void need(const ops::Gemm& op, WorkspaceNeed& n) {
  n.each(kProduct, kWorkspace);
  if (narrows(op)) n.each(kWide, op.y.size() * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::Gemm& op, Stream stream) {
  if (op.y.size() == 0) return;
  narrows(op) ? multiply_wide(op, stream) : multiply(op, stream);
}

}  // namespace ft::cuda
