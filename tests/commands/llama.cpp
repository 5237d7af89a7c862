// A Llama through all commands: trained, resumed, and its weights as a Hugging Face folder.
#include "tests/catch.h"
#include "tests/commands/command.h"

using namespace ft;
using namespace ft::test;

namespace {

// Exit code of a run of tests/train/llama.yaml.
int train_llama(const std::string& name, int ranks, const std::string& options = "") {
  return run_config(name, ranks, "tests/train/llama.yaml",
                    fmt::format("--set data.train.0.path={} --set data.train.0.name=set {}",
                                make_set(), options));
}

const std::string& llama_run() {
  static const std::string folder = [] {
    FT_CHECK(train_llama("second", 1) == 0, "training failed: {}",
             read_text(workspace() + "/second.log"));
    return workspace() + "/second/t";
  }();
  return folder;
}

// The weights of that run as Hugging Face keeps them.
std::string llama_folder() {
  const std::string folder = workspace() + "/llama-hf";
  fs::create_directories(folder);
  llama_run();
  write_text(folder + "/config.json",
             R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 257,
                 "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10,
                 "attention_bias": true})");
  const Checkpoint checkpoint(checkpoint_path("second", 12));
  std::vector<std::vector<float>> data;
  std::vector<NamedTensor> all;
  data.reserve(checkpoint.names().size());
  for (const std::string& name : checkpoint.names()) {
    if (name.starts_with("optimizer.")) continue;
    data.push_back(read_tensor(checkpoint, name));
    all.push_back({name, "F32", checkpoint.shape(name), data.back().data(),
                   static_cast<int64_t>(data.back().size()) * 4});
  }
  write_safetensors(folder + "/model.safetensors", all);
  return folder;
}

}  // namespace

TEST_CASE("llama: checkpoints and inspect have transformers' names", "[llama]") {
  llama_run();
  const Checkpoint checkpoint(checkpoint_path("second", 12));
  for (const char* name :
       {"model.norm.weight", "lm_head.weight", "model.layers.1.mlp.gate_proj.weight",
        "model.layers.0.post_attention_layernorm.weight", "model.layers.0.self_attn.q_proj.bias",
        "optimizer.exp_avg.model.layers.1.mlp.down_proj.weight"})
    CHECK(checkpoint.contains(name));
  const Ran shown = command("inspect " + llama_run());
  CHECK(shown.code == 0);
  CHECK(has(shown.out, "model.layers.1.post_attention_layernorm.weight"));
  CHECK(!has(shown.out, "feed_forward"));
  CHECK(!has(shown.out, "mamba"));
}

TEST_CASE("llama: a resumed run is bitwise the run that never stopped; ranks agree", "[llama]") {
  llama_run();
  REQUIRE(train_llama("second-cut", 1) == 0);
  for (const int step : {8, 12}) fs::remove_all(checkpoint_path("second-cut", step));
  REQUIRE(train_llama("second-cut", 1, "--set train.recompute=full") == 0);
  CHECK(has(read_text(workspace() + "/second-cut.log"), "at step 4"));
  CHECK(tensors("second-cut", 12) == tensors("second", 12));
  REQUIRE(train_llama("second-two", 2) == 0);
  const auto one = tensors("second", 12), two = tensors("second-two", 12);
  for (const auto& [name, values] : one) {
    INFO(name);
    if (name.starts_with("optimizer.")) continue;
    for (size_t i = 0; i < values.size(); ++i)
      REQUIRE(two.at(name)[i] == Approx(values[i]).epsilon(1e-3).margin(1e-5));
  }
}

TEST_CASE("llama: groups choose by transformers' names", "[llama]") {
  const std::string groups = "--set 'optimizer.groups=[{match: \"*.mlp.*\", lr_multiplier: 0}]' ";
  REQUIRE(train_llama("second-groups", 1,
                      groups + "--set train.tokens=1536 "
                               "--set optimizer.weight_decay=0") == 0);
  REQUIRE(train_llama("second-start", 1, "--set train.tokens=384 --set optimizer.lr=0") == 0);
  const auto start = tensors("second-start", 1), end = tensors("second-groups", 4);
  const std::string mlp = "model.layers.0.mlp.up_proj.weight", norm = "model.norm.weight";
  CHECK(end.at(mlp) == start.at(mlp));
  CHECK(end.at(norm) != start.at(norm));
  CHECK(train_llama("second-none", 1,
                    "--set 'optimizer.groups=[{match: \"*.feed_forward.*\", lr_multiplier: 0}]'") ==
        2);
  CHECK(has(read_text(workspace() + "/second-none.log"), "Names look like model.layers."));
  CHECK(!has(read_text(workspace() + "/second-none.log"), "Names look like model.layers.0.mamba"));
}

TEST_CASE("llama: a Hugging Face folder is the run's model to every command", "[llama]") {
  const std::string folder = llama_folder();
  CHECK(probe_logits(folder, {1, 2, 3, 256}) == probe_logits(llama_run(), {1, 2, 3, 256}));
  const std::string made = " --prompt ab --temperature 0 --tokens 12 --format ids";
  const Ran of_run = command("generate " + llama_run() + made),
            of_folder = command("generate " + folder + made);
  CHECK(of_run.code == 0);
  CHECK(of_folder.out == of_run.out);
  const std::string data = " --data " + make_set() + " --sequence-length 48";
  const Ran run = command("evaluate " + llama_run() + data),
            hf = command("evaluate " + folder + data);
  INFO(run.err << hf.err);
  CHECK(run.code == 0);
  const auto table = [](const std::string& text) {  // without how long it took
    return text.substr(text.find("loss"), text.find(" tokens in ") - text.find("loss"));
  };
  CHECK(table(hf.out) == table(run.out));
  CHECK(has(hf.out, "8,060 "));
  const Ran shown = command("inspect " + folder);
  CHECK(has(shown.out, "model.norm.weight"));

  // Training starts from it: with a learning rate of 0 the weights stay.
  const std::string from = "--set model.init_from=" + folder + " --set optimizer.lr=0 ";
  REQUIRE(train_llama("second-from", 1, from + "--set train.tokens=384") == 0);
  const auto got = tensors("second-from", 1), want = tensors("second", 12);
  for (const auto& [name, values] : want)
    if (!name.starts_with("optimizer.")) CHECK(got.at(name) == values);
}
