#include "core/param.h"

#include "core/check.h"

namespace ft {

const std::vector<std::string>& parameter_classes() {
  static const std::vector<std::string> names = {
      "embedding", "in_proj_z", "in_proj_x", "in_proj_B", "in_proj_C", "in_proj_dt", "conv",
      "dt_bias",   "A_log",     "D",         "out_proj",  "q",         "k",          "v",
      "o",         "gate",      "up",        "down",      "norm",      "bias",       "head"};
  return names;
}

const std::string& parameter_class(const Piece& piece) {
  FT_CHECK(piece.kind != ParamClass::None,
           "{}: the layer that declares it says no class of parameters", piece.label());
  return parameter_classes()[static_cast<size_t>(piece.kind) - 1];
}

}  // namespace ft
