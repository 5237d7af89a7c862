// Cross-entropy over the vocabulary.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// For rows with 0 <= label: loss = lse(logits) - logits[label], z = lse^2; others give 0 (any
// negative label). With `inv_count` the logits are replaced by the gradient of
//   inv_count * sum_t (loss + z_loss * z)
// ignored rows and padding columns (>= vocab) become 0. Without it logits stay as they are.
struct CrossEntropy {
  Out loss;           // [T] f32
  Out z;              // [T] f32
  InOut logits;       // [T, padded V] fp32 or bf16
  In labels;          // [T] i32, checked by the caller: < vocab
  int64_t vocab = 0;  // V, the columns that exist
  float z_loss = 0;
  std::optional<In> inv_count = std::nullopt;  // [1] f32: 1 / global number of valid tokens
  FT_OP("cross_entropy") {
    f("loss", loss), f("z", z), f("logits", logits), f("labels", labels);
    FT_OPTIONAL(inv_count);
  }
  void check() const {
    const int64_t T = logits.rows();
    check_rows("logits", logits, kFloat, {kAny, kAny});
    FT_CHECK(vocab > 0 && vocab <= logits.cols(), "a vocabulary of {} in {} columns of logits",
             vocab, logits.cols());
    check_dense("loss", loss, kF32, {T});
    check_dense("z", z, kF32, {T});
    check_dense("labels", labels, kI32, {T});
    check_dense("inv_count", inv_count, kF32, {1});
  }
  double flops() const { return 6.0 * logits.rows() * vocab; }
};

}  // namespace ft::ops
