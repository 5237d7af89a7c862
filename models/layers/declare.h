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

// Storage that is one vector of a checkpoint; without weight decay.
Param vector_param(const std::string& name, int64_t size, Init init, Role role);
// A whole matrix [rows, cols] of a checkpoint at (row, col) of the storage.
Piece matrix(const std::string& name, int64_t row, int64_t col, int64_t rows, int64_t cols,
             Init init, Cut cut, Role role);

}  // namespace ft
