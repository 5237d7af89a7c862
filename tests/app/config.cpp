// The configuration of a run: what it reads, what it refuses, and that the resolved one reads back.
#include "app/config/config.h"

#include "app/config/config_check.h"
#include "app/train/recipe.h"
#include "core/platform.h"
#include "core/file.h"
#include "models/families/config_file.h"
#include "tests/catch.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>

using namespace ft;
namespace fs = std::filesystem;

namespace {

struct Folder {
  std::string path = (fs::temp_directory_path() / fmt::format("ft-config-{}", ::getpid())).string();
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
};

template <class F>
std::string message(F&& f) {
  try {
    f();
  } catch (const ConfigError& error) {
    return error.what();
  }
  FAIL("nothing was refused");
  return "";
}
std::string refusal(const std::string& text) {
  return message([&] { parse_config(text, "c.yaml"); });
}
void has(const std::string& text, const std::string& part) {
  INFO("\"" << text << "\" has \"" << part << "\"");
  CHECK(text.find(part) != std::string::npos);
}

// Every option away from its default, but for those of which only one value is known.
constexpr const char* kChanged = R"(
model:
  {vocab_size: 96, tie_word_embeddings: true, hidden_size: 24, intermediate_size: 40,
   num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8,
   initializer_range: 0.03, rms_norm_eps: 2e-5, pad_token_id: null, bos_token_id: null,
   max_position_embeddings: 77, rope_theta: 5e5, attention_bias: true, mlp_bias: true,
   projectors_bias: true, mamba_d_ssm: 64, mamba_n_heads: 4, mamba_d_head: 16, mamba_n_groups: 2,
   mamba_d_state: 6, mamba_d_conv: 3, mamba_expand: 3, mamba_chunk_size: 12,
   mamba_conv_bias: false, mamba_proj_bias: true, mamba_norm_before_gate: false,
   mamba_rms_norm: true, time_step_min: 0.002, time_step_max: 0.2, time_step_limit: [0.01, 9],
   lm_head_multiplier: 0.1, embedding_multiplier: 0.2, key_multiplier: 0.3,
   attention_in_multiplier: 0.4, attention_out_multiplier: 0.5, ssm_in_multiplier: 0.6,
   ssm_out_multiplier: 0.7, mlp_multipliers: [0.8, 0.9], ssm_multipliers: [1.1, 1.2, 1.3, 1.4, 1.5],
   layer_pattern: "P2 M", init: mamba_ssm, eos_token_id: [3, 4]}
run: {name: n, directory: d, seed: 9, device: cpu, threads: 3, timeout: 5.5, stop_before: 60}
parallel: {tensor: 2, pipeline: 3, context: 4, virtual_stages: 5, zero: 1, sequence: true}
data:
  sequence_length: 33
  train: [{name: a, path: p, weight: 0.25}, {path: q}]
  validation: [{name: v, path: w, weight: 3}]
  isolate_documents: false
  read: pread
  tokenizer: bytes
train:
  {tokens: 1B, global_batch: 6, micro_batch: 3, precision: bf16, residual: fp32,
   recompute: selective, deterministic: false, z_loss: 1e-4}
optimizer:
  {lr: 0.02, betas: [0.8, 0.99], eps: 1e-9, weight_decay: 0.3, clip: 2,
   groups: [{match: "*.k_proj.weight", lr_multiplier: 0.5, weight_decay: 0.01},
            {class: in_proj_*, weight_decay_multiplier: 2}]}
schedule:
  {type: points, warmup: 5, decay: 6, final_ratio: 0.2, decay_shape: cosine, power_start: 7,
   power_exponent: 0.5, points: [[0, 0], [10, 1], [10, 0.5]],
   weight_decay: {type: points, start: 3, final_ratio: 0.1, points: [[0, 1], [1B, 0]]},
   batch_ramp: [[0, 2], [100, 6]], batch_ramp_lr: sqrt}
validate: {every: 4, sequences: 5, at_start: true}
checkpoint: {every: 6, keep_last: 7, keep_every: 8, retry: 9, async: true}
guard: {non_finite: skip, spike: {window: 9, sigma: 3, action: stop}}
log: {every: 9, norms_every: 8, tensorboard: false, mfu: false}
)";

}  // namespace

TEST_CASE("config: the resolved configuration reads back the same, every option of it",
          "[config]") {
  const Config changed = parse_config(kChanged, "c.yaml");
  const std::string text = config_text(changed);
  const Config back = parse_config(text, "config.yaml");
  CHECK(same_settings(changed, back));
  CHECK(config_text(back) == text);
  CHECK(same_settings(Config(), Config()));
  CHECK_FALSE(same_settings(changed, Config()));

  // The list above forgets no option: each line differs from the defaults' line.
  Config defaults;
  defaults.model.finish();
  std::set<std::string> plain;
  std::istringstream lines(config_text(defaults)), mine(text);
  for (std::string line; std::getline(lines, line);) plain.insert(line);
  const std::set<std::string> only = {"  hidden_act: \"silu\"",     "  attention_dropout: 0",
                                      "  linear: \"bf16\"",         "  type: \"adamw\"",
                                      "  state: \"fp32\"",          "  init_from: \"\"",
                                      "  model_type: \"falcon_h1\""};
  for (std::string line; std::getline(mine, line);)
    if (line[0] == ' ' && !only.count(line)) {
      INFO("not changed by this test: " << line);
      CHECK(plain.count(line) == 0);
    }
}

TEST_CASE("config: a null section and null values are the defaults", "[config]") {
  const Config c =
      parse_config("model: {hidden_size: null, head_dim: null}\nrun: null\ntrain:\n", "c.yaml");
  Config defaults;
  defaults.model.finish();
  CHECK(same_settings(c, defaults));
}

TEST_CASE("config: clashes between settings name the place", "[config]") {
  has(refusal("run:\n  name: a\nrnu: {}\n"),
      "c.yaml:3:1: unknown key \"rnu\"; did you mean \"run\"?");
  has(refusal("run: 5"), "c.yaml:1:6: run must be a map of settings");
  has(refusal("model: [1]"), "c.yaml:1:8: model must be a map of settings");
  has(refusal("optimizer:\n  betas: [0.9]\n"), "c.yaml:2:10: optimizer.betas: 1 numbers");
  has(refusal("optimizer: {betas: [0.9, 1]}"), "optimizer.betas[1] = 1 is out of range");
  has(refusal("optimizer:\n  groups:\n    - {class: conv}\n    - {lr_multiplier: 1}\n"),
      "c.yaml:4:7: optimizer.groups.1: give match");
  has(refusal("optimizer: {groups: [{class: cnov}]}"), "did you mean \"conv\"?");
  has(refusal("optimizer: {groups: [{class: q, weight_decay: 0, weight_decay_multiplier: 1}]}"),
      "say the same");
  has(refusal("schedule:\n  type: power\n"), "c.yaml:2:3: schedule.power_start");
  has(refusal("schedule: {points: [[0, 1]]}"), "points and type: points belong together");
  has(refusal("schedule: {type: points, points: [[5, 1], [4, 1]]}"), "rising order");
  has(refusal("schedule: {type: points, points: [[5, 1, 2]]}"),
      "schedule.points[0] must be a list of 2");
  has(refusal("schedule: {weight_decay: {type: points}}"), "schedule.weight_decay.points");
  has(refusal("schedule: {batch_ramp: [[1, 4], [9, 8]]}"), "must begin at 0");
  has(refusal("train: {global_batch: 8}\nschedule:\n  batch_ramp: [[0, 4], [9, 6]]\n"),
      "c.yaml:3:15: schedule.batch_ramp: ends with 6 sequences, train.global_batch is 8");
  has(refusal("schedule: {batch_ramp: [[0, 0]]}"), "a batch of 0 sequences");
  has(refusal("schedule: {batch_ramp_lr: sqrt}"), "no schedule.batch_ramp");
  has(refusal("data: {validation: [{path: a}, {path: a}]}"), "two sources are named \"a\"");
  has(refusal("data: {train: [{path: a, weight: 0}]}"), "weights add up to 0");
  has(refusal("data: {train: [{weight: 1}]}"), "a source has no path");
  has(refusal("train: {z_loss: -1}"), "train.z_loss = -1 is out of range");
  has(refusal("model: {mamba_n_heads: 7}"), "c.yaml:1:8: model: mamba_n_heads 7");
  has(refusal("model:\n  head_dim: 3\n"), "c.yaml:2:13: model.head_dim = 3");
  has(refusal("model: {layer_pattern: XY}"), "\"X\" is no symbol");
  has(refusal("model: {num_hidden_layers: 100000, hidden_size: 100000000}"), "mistyped");
  has(refusal("data: {sequence_length: 100000000}\ntrain: {micro_batch: 100000000}"),
      "too many for one micro-batch");
  const Config ramp = parse_config(
      "data: {sequence_length: 8, train: [{path: x}]}\ntrain: {tokens: 1M, global_batch: 4}\n"
      "schedule:\n  batch_ramp: [[0, 2], [1k, 3], [2k, 4]]\n",
      "c.yaml");
  has(message([&] { check_for_training(ramp, 2); }),
      "c.yaml:4:15: schedule.batch_ramp = 3 does not divide by 2 data-parallel ranks");
}

namespace {

// What load_config says to one more setting, by --set, of a configuration that is sound.
std::string answer(const std::string& set) {
  const std::vector<std::string> base = {"train.tokens=1000", "schedule.type=wsd",
                                         "schedule.warmup=100", "schedule.decay=200"};
  std::vector<std::string> sets = base;
  sets.push_back(set);
  try {
    load_config("configs/quickstart.yaml", sets);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("config: what exists but is not in this build is refused with these words", "[config]") {
  for (const char* set : {"parallel.tensor=2", "parallel.pipeline=2", "parallel.context=2",
                          "parallel.virtual_stages=2", "parallel.zero=1", "parallel.zero=3",
                          "parallel.sequence=true", "checkpoint.async=true", "run.device=cuda",
                          "model.linear=bitnet", "optimizer.state=bf16"}) {
    if (kBuiltWithCuda && std::string(set) == "run.device=cuda") continue;
    const std::string text = answer(set), path(set, std::string(set).find('='));
    INFO(text);
    has(text, path);
    has(text, "not in this build");
    has(text, "set it to ");
  }
  has(answer("model.linear=ternary"), "bf16, bitnet");
  CHECK(answer("run.device=cpu").empty());
}

TEST_CASE("config: values that no training can want are refused with what they would do",
          "[config]") {
  const auto [set, part] = GENERATE(table<std::string, std::string>({
      {"optimizer.eps=0", "become NaN"},
      {"optimizer.eps=1e-20", "give 4.8e-19 or more"},
      {"optimizer.eps=1e-46", "optimizer.eps"},
      {"optimizer.betas.1=0.99999999999", "is 1 in fp32"},
      {"optimizer.betas.0=0.99999999999", "is 1 in fp32"},
      {"optimizer.betas.1=1", "out of range"},
      {"optimizer.lr=3e38", "above 1000 is refused"},
      {"optimizer.lr=.inf", "out of range"},
      {"optimizer.lr=-1e-3", "out of range"},
      {"optimizer.weight_decay=1e4", "more than the whole weight"},
      {"optimizer.weight_decay=1e200", "beyond what fp32 holds"},
      {"optimizer.groups=[{class: conv, lr_multiplier: 1e9}]", "optimizer.groups.0.lr_multiplier"},
      {"optimizer.groups=[{class: conv, weight_decay: 1e9}]", "whole weight"},
      {"optimizer.groups=[{class: q, weight_decay_multiplier: 1e9}]", "whole weight"},
      {"optimizer.clip=-1", "out of range"},
      {"optimizer.clip=1e-300", "beyond what fp32 holds"},  // 0 in fp32: no clipping at all
      {"train.z_loss=1e39", "beyond what fp32 holds"},
      {"guard.spike.window=1", "needs two steps"},
      {"guard.spike.sigma=0", "every loss above the mean"},
      {"schedule.final_ratio=0", "never reaches 0"},
      {"model.rms_norm_eps=0", "NaN"},
      {"model.rms_norm_eps=1e-50", "0 in fp32"},
      {"model.initializer_range=0", "get no gradient"},
      {"model.time_step_limit=[.inf, .inf]", "not finite"},
      {"model.lm_head_multiplier=0", "equal for ever"},
      {"model.key_multiplier=1e300", "beyond what fp32 holds"},
      {"model.ssm_multipliers=[1, 1, 1, 1, 1e-300]", "model.ssm_multipliers"},
  }));
  INFO(set);
  has(answer(set), part);
}

TEST_CASE("config: a schedule longer than the run is told, not refused", "[config]") {
  const auto notes = [](const std::string& set) {
    return fmt::format("{}", fmt::join(load_config("configs/quickstart.yaml", {set}).notes, "\n"));
  };
  has(notes("schedule.warmup=2457601"), "never reached");
  has(notes("schedule.decay=2400000"), "the decay begins before the warm-up ends");
  has(notes("schedule.decay=9000000000000000000"), "the decay begins before");
  CHECK(notes("schedule.decay=100000").find("schedule") == std::string::npos);
}

TEST_CASE("config: the neighbours of refused values are taken", "[config]") {
  for (const char* set :
       {"optimizer.eps=1e-15", "optimizer.betas.1=0.9999", "optimizer.lr=0", "optimizer.clip=0",
        "optimizer.betas=[0, 0]", "guard.spike.window=0", "guard.spike.window=2",
        "schedule.decay=900", "schedule.decay=0", "optimizer.weight_decay=0", "train.z_loss=0"}) {
    INFO(set);
    CHECK(answer(set).empty());
  }
  const auto sound = [](std::vector<std::string> sets) {
    return load_config("configs/quickstart.yaml", sets);
  };
  sound({"schedule.final_ratio=0", "schedule.decay_shape=linear"});
  sound({"schedule.final_ratio=0", "schedule.type=cosine"});
  sound({"guard.spike={window: 0, sigma: 0}"});
  sound({"schedule.warmup=2457600", "schedule.decay=0"});
  has(message([&] {
        sound({"model.init=mamba_ssm", "model.time_step_min=0"});
      }),
      "model.time_step_min = 0");
  has(message([&] {
        sound({"model.init=mamba_ssm", "model.time_step_max=1e-4"});
      }),
      "0 < time_step_min <= time_step_max");
}

TEST_CASE("config: settings without effect are told", "[config]") {
  const auto told = [](const std::vector<std::string>& sets) {
    std::string all;
    for (const std::string& note : load_config("configs/quickstart.yaml", sets).notes) all += note;
    return all;
  };
  CHECK(told({}).empty());
  has(told({"schedule.type=cosine"}), "schedule.decay has no effect");
  has(told({"validate.every=0"}), "never used");
  has(told({"data.validation=[]"}), "names no set");
  has(told({"checkpoint.keep_every=500"}), "no multiple of checkpoint.every = 300");
  has(told({"schedule.batch_ramp=[[0, 8], [1B, 16]]"}), "begins at 1000000000 tokens");
}

TEST_CASE("config: sizes whose product no integer holds are refused by name", "[config]") {
  for (const auto& [sets, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"model.num_hidden_layers=100000", "train.micro_batch=1000000"}, "train.micro_batch"},
           {{"model.mamba_d_state=1000000000", "model.hidden_size=2", "model.head_dim=2",
             "model.mamba_d_ssm=60000", "model.mamba_d_head=10000", "model.mamba_n_heads=6",
             "train.micro_batch=1000"},
            "model.mamba_d_state"},
           {{"train.global_batch=1000000000", "data.sequence_length=1000000000",
             "train.micro_batch=1"},
            "train.global_batch"}}) {
    const std::string text = message([&] { load_config("configs/quickstart.yaml", sets); });
    has(text, ": " + part + " = ");
    has(text, "mistyped");
  }
}

TEST_CASE("config: numbers are written so that every YAML reader takes them for numbers",
          "[config]") {
  CHECK(yaml_number(1e-5) == "1.0e-05");
  CHECK(yaml_number(1.25e-8) == "1.25e-08");
  CHECK(yaml_number(1e22) == "1.0e+22");
  CHECK(yaml_number(0.1) == "0.1");
  CHECK(yaml_number(3) == "3");
  has(config_text(load_config("configs/quickstart.yaml", {"optimizer.lr=1e-5"})), "lr: 1.0e-05\n");
  has(message([] { load_config("configs/quickstart.yaml", {"optimizer.lr="}); }),
      "--set optimizer.lr=: the value is missing");
  has(message([] { load_config("configs/quickstart.yaml", {"train.residual= "}); }),
      "for an empty text");
  CHECK(load_config("configs/quickstart.yaml", {"optimizer.lr=null"}).optimizer.lr == 1e-3);
  CHECK(load_config("configs/quickstart.yaml", {"train.residual=\"\""}).train.residual.empty());
}

TEST_CASE("config: what is missing says where it was looked for", "[config]") {
  const Folder folder;
  const std::string here = fs::current_path().string();
  has(message([] { load_config("no-such.yaml", {}); }), "looked for " + here + "/no-such.yaml");
  write_text(folder.path + "/a.yaml", "extends: gone.yaml\n");
  has(message([&] { load_config(folder.path + "/a.yaml", {}); }), folder.path + "/gone.yaml");
  write_text(folder.path + "/b.yaml", "model: {config: gone.json}\n");
  has(message([&] { load_config(folder.path + "/b.yaml", {}); }), folder.path + "/gone.json");
  const Config c = parse_config(
      "data: {sequence_length: 8, train: [{path: no/set}]}\ntrain: {tokens: 8}\n", "c.yaml");
  has(message([&] { check_for_training(c, 1); }),
      "no/set.bin: is missing (looked for " + here + "/no/set.bin");
  write_text(folder.path + "/set.idx", "x");
  const Config file = parse_config("data: {sequence_length: 8, train: [{path: " + folder.path +
                                       "/set.idx}]}\ntrain: {tokens: 8}\n",
                                   "c.yaml");
  has(message([&] { check_for_training(file, 1); }), "write " + folder.path + "/set");
  has(message([] { load_config("configs/quickstart.yaml", {"run.name=../x"}); }), "run.name");
}

TEST_CASE("config: Hugging Face's config.json as Python writes it", "[config]") {
  const Folder folder;
  const std::string path = folder.path + "/config.json";
  write_text(path, R"({
	"architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "torch_dtype": "bfloat16",
	"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": null, "head_dim": null,
	"mamba_d_ssm": null, "mamba_expand": 2, "mamba_n_heads": 4, "mamba_d_head": "auto",
	"mamba_n_groups": 1, "pad_token_id": null, "eos_token_id": [11, 228], "bos_token_id": null,
	"time_step_limit": [0.0, Infinity], "rope_scaling": null, "hidden_act": null,
	"rope_parameters": {"rope_type": "default", "rope_theta": 100000000000.0},
	"mystery": {"a": [1, NaN]}, "another": null, "attn_layer_indices": null,
	"_name_or_path": "caf\u00e9"
})");
  std::vector<std::string> notes;
  const ModelConfig m = load_hf_config(path, &notes);
  CHECK(m.hidden_size == 64);
  CHECK(m.num_key_value_heads == 4);  // null: as many as query heads
  CHECK(m.head_dim == 16);
  CHECK(m.mamba_d_ssm == 128);  // null: mamba_expand * hidden_size
  CHECK(!m.pad_token_id);
  CHECK(m.eos_token_id == std::vector<int64_t>{11, 228});
  CHECK(m.time_step_limit == std::array<double, 2>{0, std::numeric_limits<double>::infinity()});
  CHECK(m.rope_theta == 1e11);
  REQUIRE(notes.size() == 1);
  has(notes[0], "keys without effect here: mystery, another");

  write_text(path, R"({"rope_theta": 10000, "time_step_limit": [0.0, {"__float__": "Infinity"}]})");
  CHECK(load_hf_config(path, nullptr).rope_theta == 1e4);
  const auto refused = [&](const char* text) {
    write_text(path, text);
    return message([&] { load_hf_config(path, nullptr); });
  };
  has(refused("{\"hidden_size\": \"64\"}"), "config.json:1:17: hidden_size must be a whole number");
  has(refused("{\"model_type\": \"mamba\"}"), "expected falcon_h1 or llama");
  has(refused("{\"rope_parameters\": {\"rope_type\": \"yarn\"}}"), "expected rope_type: default");
  has(refused("{\"sliding_window\": 128}"), "sliding_window is not supported");
  has(refused("{\"hidden_size\": 64, \"hidden_size\": 65}"), "given twice");
  write_text(path,
             "{\"_name_or_path\": \"\\ud83d\\ude00\", \"hidden_size\": 64, \"mystery\": NaN}");
  CHECK(load_hf_config(path, nullptr).hidden_size == 64);
}

TEST_CASE("config: where config.json is silent, transformers' defaults hold", "[config]") {
  using nlohmann::json;
  const Folder folder;
  const std::string path = folder.path + "/config.json";
  const auto [file, cases] = GENERATE(
      table<std::string, size_t>({{"config_defaults.json", 79}, {"llama_defaults.json", 35}}));
  const json golden = json::parse(read_text("tests/app/golden/" + file));
  REQUIRE(golden["cases"].size() == cases);
  for (const json& one : golden["cases"]) {
    json config = golden["config"], expected = golden["resolved"];
    for (const auto& key : one["without"]) config.erase(key.get<std::string>());
    config.update(one["with"]), expected.update(one["but"]);
    for (const auto& key : one["open"]) expected.erase(key.get<std::string>());
    write_text(path, config.dump());
    const ModelConfig m = load_hf_config(path, nullptr);
    const OptionNode got = OptionNode::parse(model_text(m, 0), "resolved");
    for (const auto& [key, value] : expected.items()) {
      INFO("without " << one["without"] << ", with " << one["with"] << ": " << key);
      const OptionNode node = got.at(key);
      const auto same = [](const OptionNode& at, const json& v) {
        if (v.is_null()) return at.is_null();
        if (v.is_boolean()) return at.boolean("") == v.get<bool>();
        if (v.is_string() && v != "Infinity") return at.text("") == v.get<std::string>();
        return at.number("") == (v.is_string() ? HUGE_VAL : v.get<double>());
      };
      if (!value.is_array()) {
        CHECK(same(node, value));
        continue;
      }
      REQUIRE(node.items().size() == value.size());
      for (size_t i = 0; i < value.size(); ++i) CHECK(same(node.items()[i], value[i]));
    }
  }
  CHECK(parse_config("model: {hidden_size: 64}\n", "c.yaml").model.rope_theta == 1e11);
}

TEST_CASE("config: model.config is relative to the file that names it", "[config]") {
  const Folder folder;
  write_text(folder.path + "/models/m.yaml", "model: {config: hf/config.json}\n");
  write_text(folder.path + "/models/hf/config.json", "{\"hidden_size\": 64, \"head_dim\": 8}");
  write_text(folder.path + "/runs/top.yaml", "extends: ../models/m.yaml\nmodel: {head_dim: 4}\n");
  const Config c = load_config(folder.path + "/runs/top.yaml", {});
  CHECK(c.model.hidden_size == 64);
  CHECK(c.model.head_dim == 4);
  has(message([&] {
        load_config(folder.path + "/runs/top.yaml", {"model.config=/nowhere/config.json"});
      }),
      "--set model.config=/nowhere/config.json: model.config: /nowhere/config.json does not exist");
}

TEST_CASE("config: groups by name and class; the last match wins", "[config]") {
  const Config c = parse_config(kChanged, "c.yaml");
  const auto groups = piece_groups(c.optimizer);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].match == "*.k_proj.weight");
  CHECK(groups[1].parameters == "in_proj_*");
  CHECK(groups[1].weight_decay == Approx(0.6));

  std::vector<Param> params(3);
  const auto piece = [](const char* name, const char* section, ParamClass kind, bool decay) {
    Piece p;
    p.name = name, p.section = section, p.kind = kind, p.rows = 2, p.decay = decay;
    return p;
  };
  params[0].pieces = {piece("a.in_proj.weight", "z", ParamClass::InProjZ, true),
                      piece("a.in_proj.weight", "dt", ParamClass::InProjDt, true)};
  params[1].pieces = {piece("a.conv1d.weight", "", ParamClass::Conv, false)};
  params[2].pieces = {piece("a.k_proj.weight", "", ParamClass::K, true)};
  Store store([&](const std::function<void(Param&)>& f) {
    for (Param& p : params) f(p);
  });
  set_groups(store,
             {{"", "in_proj_*", 0.5, std::nullopt},
              {"*[dt]", "", std::nullopt, 0.0},
              {"*", "conv", 3.0, 0.2},
              {"*.weight", "in_proj_z", 0.25, std::nullopt}},
             0.1);
  CHECK(params[0].pieces[0].lr_multiplier == 0.25f);
  CHECK(params[0].pieces[0].weight_decay == 0.1f);
  CHECK(params[0].pieces[1].lr_multiplier == 0.5f);
  CHECK(params[0].pieces[1].weight_decay == 0.0f);
  CHECK(params[1].pieces[0].lr_multiplier == 3.0f);
  CHECK(params[1].pieces[0].weight_decay == 0.2f);
  CHECK(params[2].pieces[0].lr_multiplier == 1.0f);
  CHECK(params[2].pieces[0].weight_decay == 0.1f);
  has(message([&] {
        set_groups(store, {{"", "head", 1.0, std::nullopt}}, 0.1);
      }),
      "match \"\" with class \"head\" finds no parameter");
  has(message([&] {
        set_groups(store, {{"*[z]", "conv", 1.0, std::nullopt}}, 0.1);
      }),
      "finds no parameter");
}

TEST_CASE("config: the reference names every option", "[config]") {
  const std::string help = config_help();
  std::istringstream lines(config_text(Config()));
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    const std::string name = line.substr(0, line.find(':'));
    if (line[0] != ' ') section = name;
    else has(help, "\n" + section + "." + name.substr(name.find_first_not_of(' ')) + ": ");
  }
}
