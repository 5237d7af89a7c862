#include "core/param_class.h"

#include "core/check.h"
#include "tests/catch.h"

#include <algorithm>

using namespace ft;

namespace {
std::string class_of(const std::string& name, const std::string& section = "") {
  Piece piece;
  piece.name = name, piece.section = section;
  return parameter_class(piece);
}
}  // namespace

TEST_CASE("every tensor of the model has its class", "[param]") {
  const std::string l = "model.layers.12.";
  CHECK(class_of("model.embed_tokens.weight") == "embedding");
  CHECK(class_of("lm_head.weight") == "head");
  CHECK(class_of("model.final_layernorm.weight") == "norm");
  CHECK(class_of(l + "input_layernorm.weight") == "norm");
  CHECK(class_of(l + "pre_ff_layernorm.weight") == "norm");
  CHECK(class_of(l + "mamba.norm.weight") == "norm");
  for (const char* section : {"z", "x", "B", "C", "dt"}) {
    CHECK(class_of(l + "mamba.in_proj.weight", section) == std::string("in_proj_") + section);
    CHECK(class_of(l + "mamba.in_proj.bias", section) == "bias");
  }
  CHECK(class_of(l + "mamba.conv1d.weight") == "conv");
  CHECK(class_of(l + "mamba.conv1d.bias") == "bias");
  CHECK(class_of(l + "mamba.dt_bias") == "dt_bias");
  CHECK(class_of(l + "mamba.A_log") == "A_log");
  CHECK(class_of(l + "mamba.D") == "D");
  CHECK(class_of(l + "mamba.out_proj.weight") == "out_proj");
  for (const char* which : {"q", "k", "v", "o"}) {
    CHECK(class_of(l + "self_attn." + which + "_proj.weight") == which);
    CHECK(class_of(l + "self_attn." + which + "_proj.bias") == "bias");
  }
  for (const char* which : {"gate", "up", "down"})
    CHECK(class_of(l + "feed_forward." + which + "_proj.weight") == which);
  CHECK_THROWS_AS(class_of("model.layers.0.strange.weight"), Error);
  CHECK_THROWS_AS(class_of(l + "self_attn.w_proj.weight"), Error);
}
