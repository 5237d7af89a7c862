// A parameter is declared once: its storage, and the pieces of Hugging Face tensors that live in
// it. Storage may be fused (several tensors share one matrix, so one product serves them all) and
// padded; norms, the optimizer, checkpoints and counts see pieces, never padding.
#pragma once

#include "core/tensor.h"

#include <optional>
#include <string>
#include <vector>

namespace ft {

// How a piece starts.
struct Init {
  enum class Kind : uint8_t { Zero, One, Normal, Uniform, LogRange, LogUniform, DtBias };
  Kind kind = Kind::Zero;
  // a: Normal: std; Uniform, LogUniform: low; DtBias: smallest dt; LogRange: log(1 + row)
  // b: Uniform, LogUniform: high (of the value whose log is stored); DtBias: largest dt
  // floor: DtBias: dt is at least this
  double a = 0, b = 0, floor = 0;
};

// What a piece does in the model: optimizer groups choose by it, norms are logged by it. Every norm's
// weight is Norm, every bias but dt_bias is Bias; InProjZ to OutProj are the Mamba-2 mixer's. The
// layer that declares a piece says it.
enum class ParamClass : uint8_t {
  None,  // not said yet
  Embedding,
  InProjZ,
  InProjX,
  InProjB,
  InProjC,
  InProjDt,
  Conv,
  DtBias,
  ALog,
  D,
  OutProj,
  Q,
  K,
  V,
  O,
  Gate,
  Up,
  Down,
  Norm,
  Bias,
  Head
};

// The names of all classes as configurations and logs write them, in the order of the model.
const std::vector<std::string>& parameter_classes();

// How tensor parallelism cuts a piece: not at all, along its rows (output features) or its columns.
enum class Cut : uint8_t { None, Out, In };

// A box of one Hugging Face tensor, lying as a box in the storage. Tensors are seen as matrices
// [shape[0], product of the rest].
struct Piece {
  std::string name;     // Hugging Face name, e.g. "model.layers.0.mamba.in_proj.weight"
  std::string section;  // part of that tensor ("z", "x", "B", "C", "dt"), or empty for all of it
  std::vector<int64_t> shape;  // of the whole Hugging Face tensor
  int64_t tensor_row = 0;      // where the box starts in the Hugging Face tensor
  int64_t tensor_col = 0;
  int64_t row = 0;  // where it starts in the storage
  int64_t col = 0;
  int64_t rows = 0;  // its size
  int64_t cols = 1;
  Init init;
  Cut cut = Cut::None;
  ParamClass kind = ParamClass::None;
  std::string part;   // of the model, for counts: "attention", "mamba", "mlp", "norms", ...
  bool decay = true;  // weight decay applies unless a group says otherwise (2-D weights)
  // Filled from the configuration's groups by the optimizer:
  float lr_multiplier = 1;
  std::optional<float> weight_decay;

  std::string label() const { return section.empty() ? name : name + "[" + section + "]"; }
  int64_t size() const { return rows * cols; }
};

// The name of a piece's class; throws where it has none.
const std::string& parameter_class(const Piece& piece);

// Storage [rows, cols] and its pieces. Memory is bound by parallel/store.h: `value` is what ops
// read (compute dtype), `grad` is fp32.
struct Param {
  int64_t rows = 0;
  int64_t cols = 1;
  bool always_fp32 = false;  // small or sensitive: A_log, D, dt_bias, norms, conv, biases
  std::vector<Piece> pieces;
  Tensor value;  // [rows, cols]; [rows] of a vector
  Tensor grad;
  Tensor master, exp_avg, exp_avg_sq;  // fp32; master is value itself where compute is fp32

  bool present() const { return rows > 0; }
  bool vector() const { return always_fp32 && cols == 1; }  // a matrix may be one column wide
  int64_t size() const { return rows * cols; }
};

// The box of a piece inside a storage-shaped tensor.
inline Tensor box(const Tensor& storage, const Piece& piece) {
  const Tensor rows = storage.row_range(piece.row, piece.row + piece.rows);
  return storage.dims == 2 ? rows.columns(piece.col, piece.col + piece.cols) : rows;
}

}  // namespace ft
