#include "models/families/build.h"

#include "models/families/family.h"

namespace ft {

Model build_model(const ModelConfig& config, Precision precision) {
  const Family& family = family_of(config);
  Model model(config, precision);
  model.visit([&](Param& param) {
    for (Piece& piece : param.pieces) piece.name = family.tensor_name(piece.name);
  });
  return model;
}

}  // namespace ft
