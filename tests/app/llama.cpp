// Llama's dictionary: its config.json, its settings in a configuration file, its sizes.
#include "app/config/config.h"
#include "app/train/engine.h"
#include "app/train/fit.h"
#include "app/train/plan_text.h"
#include "core/file.h"
#include "models/families/build.h"
#include "models/families/config_file.h"
#include "tests/catch.h"

#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>

using namespace ft;

namespace {

bool has(const std::string& text, const std::string& part) {
  INFO(text << "\nhas " << part);
  CHECK(text.find(part) != std::string::npos);
  return true;
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was refused";
}

// A config.json that goes away with its scope.
struct ConfigJson {
  std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("ft-llama-{}.json", ::getpid()))
          .string();
  explicit ConfigJson(const std::string& text) { write_text(path, text); }
  ~ConfigJson() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

ModelConfig read(const std::string& text, std::vector<std::string>* notes = nullptr) {
  const ConfigJson file(text);
  return load_hf_config(file.path, notes);
}

constexpr const char* kYaml =
    "model: {model_type: llama, vocab_size: 61, hidden_size: 24, intermediate_size: 40, "
    "num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, rope_theta: 5e5, "
    "attention_bias: true, tie_word_embeddings: true, eos_token_id: [3, 4]}\n";

}  // namespace

TEST_CASE("llama: config.json, the older spelling and the newer", "[llama]") {
  std::vector<std::string> notes;
  const ModelConfig m = read(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": true,
    "rms_norm_eps": 1e-05, "rope_theta": 50000.0, "rope_scaling": null, "pretraining_tp": 1,
    "bos_token_id": 0, "eos_token_id": 0, "is_llama_config": true, "rope_interleaved": false,
    "use_cache": true, "torch_dtype": "bfloat16", "mamba_d_ssm": 64})",
                             &notes);
  CHECK(m.model_type == "llama");
  CHECK(m.head_dim == 64);
  CHECK(m.rope_theta == 5e4);
  CHECK(m.tie_word_embeddings);
  CHECK(!m.pad_token_id);
  CHECK(m.eos_token_id == std::vector<int64_t>{0});
  CHECK(expand_pattern(m.layer_pattern, m.num_hidden_layers) == std::string(30, 'A'));
  REQUIRE(notes.size() == 1);
  has(notes[0], "keys without effect here: mamba_d_ssm");

  CHECK(
      read(R"({"model_type": "llama", "rope_parameters": {"rope_theta": 1000042.0}})").rope_theta ==
      1000042);
  CHECK(read(R"({"model_type": "llama", "rope_theta": 7e4, "rope_scaling": {"type": "default"}})")
            .rope_theta == 7e4);
  CHECK(read(R"({"model_type": "llama", "head_dim": 256})").head_dim == 256);
  CHECK(read(R"({"model_type": "llama"})").num_key_value_heads == 32);
}

TEST_CASE("llama: what the decoder has not is refused by name, with what is expected", "[llama]") {
  const auto refused = [](const std::string& entry) {
    return refusal([&] { read("{\"model_type\": \"llama\", " + entry + "}"); });
  };
  for (const char* scaling :
       {R"({"rope_type": "llama3", "factor": 8.0})", R"({"type": "linear", "factor": 2.0})",
        R"({"rope_type": "dynamic", "factor": 2.0})", R"({"rope_type": "yarn", "factor": 2.0})"}) {
    has(refused(std::string("\"rope_scaling\": ") + scaling),
        "rope_scaling: scaled rotary positions are not supported; expected rope_type: default");
    has(refused(std::string("\"rope_parameters\": ") + scaling), "rope_parameters: scaled rotary");
  }
  has(refused("\"sliding_window\": 4096"), "sliding_window is not supported; expected null");
  has(refused("\"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
      "layer_types is not supported; expected full_attention");
  has(refused("\"hidden_act\": \"gelu\""), "expected one of: silu");
  has(refused("\"pretraining_tp\": 2"), "pretraining_tp is not supported; expected 1");
  has(refused("\"partial_rotary_factor\": 0.5"),
      "partial_rotary_factor is not supported; expected 1.0");
  has(refused("\"rope_parameters\": {\"partial_rotary_factor\": 0.5}"),
      "partial_rotary_factor is not supported; expected 1.0");
  has(refused("\"rope_interleaved\": true"), "rope_interleaved is not supported; expected false");
  has(refused("\"attention_dropout\": 0.1"), "attention_dropout = 0.1 is out of range");
  has(refused("\"quantization_config\": {\"quant_method\": \"gptq\"}"),
      "use an unquantized release of the model");
  has(refusal([] { read("{\"model_type\": \"mistral\"}"); }),
      "model_type mistral is not in this build; expected falcon_h1 or llama");
  CHECK(read(R"({"model_type": "llama", "layer_types": ["full_attention"], "pretraining_tp": 1,
                 "partial_rotary_factor": 1.0, "sliding_window": null, "pad_token_id": 3})")
            .pad_token_id == 3);
}

TEST_CASE("llama: the model section of a configuration file", "[llama]") {
  const Config c = parse_config(kYaml, "c.yaml");
  CHECK(c.model.model_type == "llama");
  CHECK(c.model.layer_pattern == "A*3");
  CHECK(c.model.rms_norm_eps == 1e-6);
  CHECK(c.model.rope_theta == 5e5);
  CHECK(c.model.head_dim == 6);
  CHECK(c.model.embedding_multiplier == 1);
  const std::string text = config_text(c);
  has(text, "  model_type: \"llama\"\n");
  CHECK(text.find("mamba") == std::string::npos);
  CHECK(text.find("multiplier") == std::string::npos);
  CHECK(same_settings(parse_config(text, "again"), c));
  for (const char* key : {"mamba_d_ssm: 4", "layer_pattern: PPP", "key_multiplier: 0.5"}) {
    const std::string yaml = std::string(kYaml).insert(8, std::string(key) + ", ");
    has(refusal([&] { parse_config(yaml, "c.yaml"); }),
        "unknown key \"" + std::string(key).substr(0, std::string(key).find(':')) + "\"");
  }
  has(refusal([] { parse_config("model: {model_type: gpt2}\n", "c.yaml"); }),
      "c.yaml:1:21: model_type gpt2 is not in this build; expected falcon_h1 or llama");
  const ConfigJson json("{\"model_type\": \"llama\", \"num_hidden_layers\": 8}");
  const Config based = parse_config(
      fmt::format("model: {{config: {}, num_hidden_layers: 2}}\n", json.path), "c.yaml");
  CHECK(based.model.layer_pattern == "A*2");
  CHECK(based.model.vocab_size == 32000);
  has(refusal([&] {
        parse_config(fmt::format("model: {{config: {}, model_type: falcon_h1}}\n", json.path), "c");
      }),
      "is a llama model; leave model_type out");
  has(config_help(), "model.model_type: falcon_h1 | llama. Default: ");
  has(config_help(), "    rms_norm_eps: 1.0e-06\n");
}

TEST_CASE("llama: every tensor has the name that transformers gives it", "[llama]") {
  Model model = build_model(parse_config(kYaml, "c.yaml").model, {});
  std::set<std::string> names;
  model.visit([&](Param& p) {
    for (const Piece& piece : p.pieces) names.insert(piece.name);
  });
  std::set<std::string> want{"model.embed_tokens.weight", "model.norm.weight"};
  for (int l = 0; l < 3; ++l) {
    const std::string layer = fmt::format("model.layers.{}.", l);
    for (const std::string norm : {"input_layernorm", "post_attention_layernorm"})
      want.insert(layer + norm + ".weight");
    for (const std::string which : {"q", "k", "v", "o"})
      for (const std::string leaf : {"weight", "bias"})
        want.insert(layer + "self_attn." + which + "_proj." + leaf);
    for (const std::string which : {"gate", "up", "down"})
      want.insert(layer + "mlp." + which + "_proj.weight");
  }
  CHECK(names == want);
}

TEST_CASE("llama: the released sizes have exactly their parameters", "[llama]") {
  const auto [name, parameters] = GENERATE(
      table<std::string, int64_t>({{"smollm-135m", 134'515'008}, {"falcon3-1b", 1'669'408'768}}));
  INFO(name);
  const Config config = resolve(load_config("configs/" + name + ".yaml", {}), int64_t{1} << 40);
  const std::string text = plan_text(config, {.count = 8});
  has(text, fmt::format("model: {} parameters (attention ", parameters));
  CHECK(text.find("mamba") == std::string::npos);
  CHECK(text.find("state-space scan") == std::string::npos);
  CHECK(planned_memory(config) > 18 * parameters);
}
