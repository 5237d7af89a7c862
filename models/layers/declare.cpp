#include "models/layers/declare.h"

namespace ft {

Param vector_param(const std::string& name, int64_t size, Init init, Role role) {
  Param p{.rows = size, .always_fp32 = true};
  p.pieces.push_back({.name = name,
                      .shape = {size},
                      .rows = size,
                      .init = init,
                      .kind = role.kind,
                      .part = role.part,
                      .decay = false});
  return p;
}

Piece matrix(const std::string& name, int64_t row, int64_t col, int64_t rows, int64_t cols,
             Init init, Cut cut, Role role) {
  return {.name = name,
          .shape = {rows, cols},
          .row = row,
          .col = col,
          .rows = rows,
          .cols = cols,
          .init = init,
          .cut = cut,
          .kind = role.kind,
          .part = role.part};
}

}  // namespace ft
