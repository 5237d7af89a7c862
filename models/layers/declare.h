// How layers declare their parameters: storage and pieces of the usual kinds.
#pragma once

#include "core/param.h"

#include <string>

namespace ft {

// What a tensor is, whatever its shape.
struct Role {
  ParamClass kind;
  const char* part;  // of the model, as Piece::part
};

// What storage is padded to, with zeros: rows of a merged projection, rows of the vocabulary's
// tables.
struct Layout {
  static constexpr int64_t segment_align = 16, vocab_align = 16;
  static constexpr int64_t aligned(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
};

// Storage that is one vector of a checkpoint; without weight decay.
Param vector_param(const std::string& name, int64_t size, Init init, Role role);
// A whole matrix [rows, cols] of a checkpoint at (row, col) of the storage.
Piece matrix(const std::string& name, int64_t row, int64_t col, int64_t rows, int64_t cols,
             Init init, Cut cut, Role role);

}  // namespace ft
