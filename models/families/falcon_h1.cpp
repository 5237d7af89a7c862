#include "models/families/falcon_h1.h"

#include "models/decoder/settings.h"

namespace ft {

namespace {

struct Names {
  std::vector<std::string> all;
  template <class... Rest>
  void operator()(const std::string& name, Rest&&...) {
    all.push_back(name);
  }
  void derived(const std::string& name, int64_t&, const std::string&) { all.push_back(name); }
};

Family made() {
  Family f;
  f.model_type = "falcon_h1";
  Names names;
  describe(names, f.defaults);
  describe_ours(names, f.defaults);
  f.settings = names.all;  // every one
  f.json_defaults = f.defaults;
  f.json_defaults.rope_theta = 1e4;  // the released models' is in their config.json
  f.fixed = {{"attn_layer_indices", {}}, {"sliding_window", {}}};
  f.without_effect = {"num_logits_to_keep", "mamba_use_mlp", "mlp_expansion_factor",
                      "expansion_factor"};
  return f;
}

}  // namespace

const Family& falcon_h1() {
  static const Family family = made();
  return family;
}

}  // namespace ft
