#include "core/param_class.h"

#include "core/check.h"

#include <algorithm>
#include <string_view>

namespace ft {

const std::vector<std::string>& parameter_classes() {
  static const std::vector<std::string> names = {
      "embedding", "in_proj_z", "in_proj_x", "in_proj_B", "in_proj_C", "in_proj_dt", "conv",
      "dt_bias",   "A_log",     "D",         "out_proj",  "q",         "k",          "v",
      "o",         "gate",      "up",        "down",      "norm",      "bias",       "head"};
  return names;
}

std::string parameter_class(const Piece& piece) {
  // "model.layers.0.mamba.in_proj.weight" -> module "in_proj", leaf "weight"
  const std::string_view name = piece.name;
  const size_t dot = name.rfind('.');
  const std::string_view leaf = dot == name.npos ? name : name.substr(dot + 1);
  const std::string_view path = dot == name.npos ? std::string_view() : name.substr(0, dot);
  const std::string_view module = path.substr(path.rfind('.') + 1);  // npos + 1 = 0

  if (leaf == "bias") return "bias";
  if (leaf == "dt_bias" || leaf == "A_log" || leaf == "D") return std::string(leaf);
  if (module == "embed_tokens") return "embedding";
  if (module == "lm_head") return "head";
  if (module == "conv1d") return "conv";
  if (module == "in_proj") return "in_proj_" + piece.section;
  if (module == "out_proj") return "out_proj";
  if (module.find("norm") != module.npos) return "norm";
  std::string projection(module.substr(0, module.find("_proj")));  // q, k, v, o, gate, up, down
  const auto& known = parameter_classes();
  FT_CHECK(module.ends_with("_proj") && std::count(known.begin(), known.end(), projection) == 1,
           "{}: no class of parameters is known for this tensor", piece.label());
  return projection;
}

}  // namespace ft
