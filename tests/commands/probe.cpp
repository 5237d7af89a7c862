// probe: what goes in, what comes out, and what is refused.
#include "core/platform.h"
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

const std::string& out_file() {
  static const std::string path = workspace() + "/probe.safetensors";
  return path;
}

Ran probe(const std::string& model, const std::string& tokens, const std::string& more = "",
          int ranks = 1) {
  fs::remove(out_file());
  return command("probe " + model + " --tokens " + tokens + " --out " + out_file() + " " + more,
                 ranks);
}

std::string tokens_of(const std::string& name) { return golden + name + "/tokens.safetensors"; }

struct Column {
  std::string name;
  std::vector<int64_t> shape, values;
};
std::string file_of(const std::vector<Column>& columns) {
  std::vector<NamedTensor> tensors;
  for (const Column& c : columns)
    tensors.push_back({c.name, "I64", c.shape, c.values.data(),
                       static_cast<int64_t>(c.values.size() * sizeof(int64_t))});
  const std::string path = workspace() + "/columns.safetensors";
  write_safetensors(path, tensors);
  return path;
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double d = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i)
    d += (double(a[i]) - b[i]) * (double(a[i]) - b[i]), norm += double(b[i]) * b[i];
  return std::sqrt(d / std::max(norm, 1e-30));
}

// The tensors of a golden model, changed and written again in these dtypes.
struct Weights {
  std::vector<NamedTensor> tensors;
  std::vector<std::vector<uint8_t>> data;
  void add(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
           const std::vector<float>& values) {
    std::vector<uint8_t> bytes;
    for (float value : values) {
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      const auto push = [&](uint32_t word, int n) {
        for (int i = 0; i < n; ++i) bytes.push_back(static_cast<uint8_t>(word >> 8 * i));
      };
      if (dtype == "F32") push(bits, 4);
      else if (dtype == "BF16") push(bits >> 16, 2);
      else push(half(value), 2);
    }
    data.push_back(std::move(bytes));
    tensors.push_back({name, dtype, std::move(shape), data.back().data(),
                       static_cast<int64_t>(data.back().size())});
  }
  // Of a normal number whose fraction fits.
  static uint32_t half(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if (value == 0) return 0;
    return (bits >> 16 & 0x8000) | ((bits >> 13 & 0x3FFFF) - ((127 - 15) << 10));
  }
};

float few_bits(float value) {  // exact in fp16 and bf16 alike
  const float small = std::round(value * 64) / 64;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(small) & 0xFFFF0000u);
}

// `shards` files with an index, or one file; dtypes in turn.
void rewrite(const std::string& folder, size_t shards, const std::vector<std::string>& dtypes) {
  std::vector<Weights> parts(shards);
  json map;
  {
    const SafetensorsFile file(folder + "/model.safetensors");
    size_t i = 0;
    for (const auto& [name, info] : file.tensors()) {
      auto values = file.read_f32(name);
      for (float& value : values) value = few_bits(value);
      parts[i % shards].add(name, dtypes[i % dtypes.size()], info.shape, values);
      map[name] = fmt::format("model-{:05}-of-{:05}.safetensors", i % shards + 1, shards);
      ++i;
    }
  }
  fs::remove(folder + "/model.safetensors");
  for (size_t s = 0; s < shards; ++s)
    write_safetensors(
        shards == 1 ? folder + "/model.safetensors"
                    : fmt::format("{}/model-{:05}-of-{:05}.safetensors", folder, s + 1, shards),
        parts[s].tensors);
  if (shards > 1)
    write_text(folder + "/model.safetensors.index.json", json{{"weight_map", map}}.dump());
}

}  // namespace

TEST_CASE("probe: rows over ranks, more ranks than rows included, give the same") {
  for (const std::string name : {"groups2_norm", "packed_norm_groups2", "tied"}) {
    REQUIRE(probe(golden + name, tokens_of(name), "--gradients --hidden").code == 0);
    const SafetensorsFile one(out_file());
    fs::rename(out_file(), workspace() + "/one.safetensors");
    for (int ranks : {2, 3}) {
      REQUIRE(
          probe(golden + name, tokens_of(name), "--gradients --hidden --set run.threads=1", ranks)
              .code == 0);
      const SafetensorsFile many(out_file());
      CHECK(many.tensors().size() == one.tensors().size());
      for (const auto& [tensor, info] : one.tensors()) {
        INFO(name << ", " << ranks << " ranks: " << tensor);
        CHECK(many.info(tensor).shape == info.shape);
        const double d = difference(many.read_f32(tensor), one.read_f32(tensor));
        CHECK(d <= (tensor.starts_with("grad.") || tensor == "loss" ? 1e-6 : 0.0));
      }
    }
  }
}

TEST_CASE("probe: names and shapes of what it writes") {
  REQUIRE(probe(golden + "tied", tokens_of("tied"), "--gradients --hidden").code == 0);
  const SafetensorsFile file(out_file());
  CHECK(file.info("logits").shape == std::vector<int64_t>{2, 16, 67});
  CHECK(file.info("loss").shape == std::vector<int64_t>{1});
  for (const char* layer : {"hidden.0", "hidden.1", "hidden.2"})
    CHECK(file.info(layer).shape == std::vector<int64_t>{2, 16, 32});
  CHECK(!file.contains("hidden.3"));
  CHECK(file.contains("grad.model.embed_tokens.weight"));
  CHECK(!file.contains("grad.lm_head.weight"));
  for (const auto& [name, info] : file.tensors()) CHECK(info.dtype == "F32");
  REQUIRE(probe(golden + "tied", tokens_of("tied")).code == 0);
  CHECK(SafetensorsFile(out_file()).tensors().size() == 2);
}

TEST_CASE("probe: hidden.0 is the scaled embedding, hidden.L feeds the head") {
  const std::string model = golden + "multipliers";
  REQUIRE(probe(model, tokens_of("multipliers"), "--hidden").code == 0);
  const SafetensorsFile out(out_file()), weights(model + "/model.safetensors"),
      tokens(tokens_of("multipliers"));
  const auto ids = tokens.read_i64("input_ids");
  const auto embed = weights.read_f32("model.embed_tokens.weight"),
             head = weights.read_f32("lm_head.weight"), first = out.read_f32("hidden.0"),
             last = out.read_f32("hidden.2"), logits = out.read_f32("logits");
  std::vector<float> scaled, product;
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t d = 0; d < 32; ++d)
      scaled.push_back(1.7f * embed[static_cast<size_t>(ids[t]) * 32 + d]);
    for (size_t v = 0; v < 67; ++v) {
      double sum = 0;
      for (size_t d = 0; d < 32; ++d) sum += double(last[t * 32 + d]) * head[v * 32 + d];
      product.push_back(static_cast<float>(0.6 * sum));
    }
  }
  CHECK(difference(first, scaled) < 1e-6);
  CHECK(difference(logits, product) < 1e-5);
}

TEST_CASE("probe: a head that differs from the embedding is not tied, as in transformers") {
  const auto set_tied = [](const std::string& folder) {
    json config = json::parse(read_text(folder + "/config.json"));
    config["tie_word_embeddings"] = true;
    write_text(folder + "/config.json", config.dump());
  };
  const auto logits = [&](const std::string& model, const std::string& tokens) {
    const Ran ran = probe(model, tokens_of(tokens));
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    return std::pair{SafetensorsFile(out_file()).read_f32("logits"), ran.out + ran.err};
  };
  const std::string other = copy_of("plain");
  set_tied(other);
  const auto [untied, said] = logits(other, "plain");
  CHECK(untied == logits(golden + "plain", "plain").first);
  CHECK(has(said, "the weights hold a lm_head.weight of its own: the two are not tied"));

  // The same table under both names, or under the head's alone, is one table.
  const SafetensorsFile file(golden + "tied/model.safetensors");
  const auto expected = logits(golden + "tied", "tied").first;
  for (const bool both : {true, false}) {
    const std::string folder = copy_of("tied");
    Weights weights;
    for (const auto& [name, info] : file.tensors()) {
      const bool table = name == "model.embed_tokens.weight";
      const auto values = file.read_f32(name);
      if (!table || both) weights.add(name, "F32", info.shape, values);
      if (table) weights.add("lm_head.weight", "F32", info.shape, values);
    }
    write_safetensors(folder + "/model.safetensors", weights.tensors);
    const auto [made, text] = logits(folder, "tied");
    CHECK(made == expected);
    CHECK(!has(text, "not tied"));
  }
}

TEST_CASE("probe: labels override, -100 is left out, documents end the default ones") {
  const std::string model = golden + "norm";
  const std::vector<int64_t> ids = {5, 6, 7, 8, 9, 10};
  const auto loss = [&](const std::vector<Column>& more) {
    std::vector<Column> all{{"input_ids", {1, 6}, ids}};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = probe(model, file_of(all));
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    return SafetensorsFile(out_file()).read_f32("loss")[0];
  };
  const auto logits = probe_logits(model, ids);
  const auto nats = [&](size_t position, int64_t label) {
    const float* row = logits.data() + position * 67;
    double sum = 0;
    for (size_t v = 0; v < 67; ++v) sum += std::exp(double(row[v]));
    return std::log(sum) - row[label];
  };
  double all = 0;
  for (size_t t = 0; t < 5; ++t) all += nats(t, ids[t + 1]);
  CHECK(loss({}) == Approx(all / 5).epsilon(1e-5));
  // Unshifted: the label of token t is predicted at t - 1; that of token 0 by nobody.
  CHECK(loss({{"labels", {1, 6}, {3, -100, 44, -100, -100, 10}}}) ==
        Approx((nats(1, 44) + nats(4, 10)) / 2).epsilon(1e-5));
  CHECK(loss({{"labels", {1, 6}, {-100, -100, -100, -100, -100, -100}}}) == 0);
  const float two = loss({{"document_ids", {1, 6}, {0, 0, 0, 4, 4, 4}}});
  const auto second = probe_logits(model, {8, 9, 10});
  double sum = nats(0, 6) + nats(1, 7);
  for (size_t t = 0; t < 2; ++t) {
    double lse = 0;
    for (size_t v = 0; v < 67; ++v) lse += std::exp(double(second[t * 67 + v]));
    sum += std::log(lse) - second[t * 67 + static_cast<size_t>(ids[t + 4])];
  }
  CHECK(two == Approx(sum / 4).epsilon(1e-5));
  // A label on a document's first token is explicit, so it counts.
  CHECK(loss({{"document_ids", {1, 6}, {0, 0, 0, 4, 4, 4}},
              {"labels", {1, 6}, {-100, -100, -100, 8, -100, -100}}}) ==
        Approx(nats(2, 8)).epsilon(1e-5));
}

TEST_CASE("probe: settings that are taken, and those that are refused by name") {
  const std::string model = golden + "plain", tokens = tokens_of("plain");
  CHECK(probe(model, tokens,
              "--set device=cpu --set parallel.tensor=1 --set parallel.pipeline=1 "
              "--set parallel.context=1 --set model.linear=bf16 --set train.precision=bf16")
            .code == 0);
  for (const auto& [set, part] : std::vector<std::pair<std::string, std::string>>{
           {"parallel.tensor=2", "tensor parallelism is not in this build"},
           {"parallel.zero=1", "not in this build"},
           {"model.linear=bitnet", "bitnet is not in this build"},
           {"model.hidden_size=64", "only model.linear"},
           {"device=tpu", "device"},
           {"device=cuda", "cuda is not in this build"},
           {"parallel.tensr=1", "tensor"},
           {"train.precision=fp8", "fp32"}}) {
    if (kBuiltWithCuda && set == "device=cuda") continue;
    const Ran ran = probe(model, tokens, "--set " + set);
    INFO(set << ": " << ran.err);
    CHECK(ran.code == 2);
    CHECK(has(ran.err, part));
    CHECK(!fs::exists(out_file()));
  }
}

TEST_CASE("probe: wrong inputs are named, and nothing is written") {
  const std::string model = golden + "plain";
  const auto refused = [&](const std::vector<Column>& columns, const std::string& part) {
    const Ran ran = probe(model, file_of(columns));
    INFO(part << " in: " << ran.err);
    CHECK(ran.code == 2);
    CHECK(has(ran.err, part));
    CHECK(!fs::exists(out_file()));
  };
  refused({{"ids", {1, 2}, {1, 2}}}, "input_ids");
  refused({{"input_ids", {2}, {1, 2}}}, "[B, T]");
  refused({{"input_ids", {1, 0}, {}}}, "[B, T]");
  refused({{"input_ids", {1, 2}, {1, 67}}}, "input_ids[0, 1] = 67");
  refused({{"input_ids", {1, 2}, {1, -1}}}, "-1");
  refused({{"input_ids", {1, 2}, {1, 2}}, {"labels", {2, 1}, {1, 2}}}, "labels");
  refused({{"input_ids", {1, 2}, {1, 2}}, {"labels", {1, 2}, {1, 67}}}, "67");
  refused({{"input_ids", {1, 2}, {1, 2}}, {"document_ids", {1}, {0}}}, "document_ids");
  const Ran missing = probe(model, workspace() + "/none.safetensors");
  CHECK(missing.code == 2);
  CHECK(has(missing.err, "none.safetensors"));
  const Ran nowhere = command("probe " + model + " --tokens " + tokens_of("plain") + " --out " +
                              workspace() + "/no/where.safetensors");
  CHECK(nowhere.code == 2);
  CHECK(has(nowhere.err, "no folder"));
  const float floats[2] = {1, 2};
  const std::string file = workspace() + "/floats.safetensors";
  write_safetensors(file, {{"input_ids", "F32", {1, 2}, floats, 8}});
  const Ran real = probe(model, file);
  CHECK(real.code == 2);
  CHECK(has(real.err, "input_ids"));
}

TEST_CASE("probe: weights in shards and in fp16 and bf16 are the same weights") {
  const std::string tokens = tokens_of("groups2_norm");
  const std::string plain = copy_of("groups2_norm");
  rewrite(plain, 1, {"F32"});
  REQUIRE(probe(plain, tokens).code == 0);
  const auto expected = SafetensorsFile(out_file()).read_f32("logits");
  for (size_t shards : {size_t{1}, size_t{3}}) {
    const std::string folder = copy_of("groups2_norm");
    rewrite(folder, shards, {"F32", "BF16", "F16"});
    const Ran ran = probe(folder, tokens);
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    CHECK(SafetensorsFile(out_file()).read_f32("logits") == expected);
  }
}

TEST_CASE("probe: missing, misshapen and superfluous tensors, and folders that are none") {
  const std::string folder = copy_of("plain"), tokens = tokens_of("plain");
  const std::string path = folder + "/model.safetensors";
  const auto rewritten = [&](const std::function<void(Weights&, const SafetensorsFile&)>& change,
                             const std::string& without) {
    Weights weights;
    {
      const SafetensorsFile file(golden + "plain/model.safetensors");
      for (const auto& [name, info] : file.tensors())
        if (name != without) weights.add(name, "F32", info.shape, file.read_f32(name));
      change(weights, file);
    }
    write_safetensors(path, weights.tensors);
    return probe(folder, tokens);
  };
  const std::string norm = "model.layers.1.input_layernorm.weight";
  const Ran missing = rewritten([](Weights&, const SafetensorsFile&) {}, norm);
  CHECK(missing.code == 2);
  CHECK(has(missing.err, norm));
  CHECK(has(missing.err, "missing"));
  const Ran shape = rewritten(
      [&](Weights& w, const SafetensorsFile&) {
        w.add(norm, "F32", {2, 8}, std::vector<float>(16));
      },
      norm);
  CHECK(shape.code == 2);
  CHECK(has(shape.err, norm));
  CHECK(has(shape.err, "[2, 8]"));
  const Ran more = rewritten(
      [&](Weights& w, const SafetensorsFile&) {
        w.add("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, {1, 2});
      },
      "");
  CHECK(more.code == 0);
  CHECK(has(more.out, "rotary_emb.inv_freq"));

  auto config = json::parse(read_text(folder + "/config.json"));
  config["quantization_config"] = {{"quant_method", "bitnet"}};
  write_text(folder + "/config.json", config.dump());
  const Ran packed = probe(folder, tokens);
  CHECK(packed.code == 2);
  CHECK(has(packed.err, "quantization_config"));
  CHECK(has(packed.err, "BitNet"));
  fs::copy_file(golden + "plain/config.json", folder + "/config.json",
                fs::copy_options::overwrite_existing);
  fs::remove(path);
  const Ran empty = probe(folder, tokens);
  CHECK(empty.code == 2);
  CHECK(has(empty.err, "safetensors"));
  const Ran no_model = probe(workspace() + "/text", tokens);
  CHECK(no_model.code == 2);
  CHECK(has(no_model.err, "neither"));
}

TEST_CASE("probe: a checkpoint and its run are models too") {
  const auto run = probe_logits(byte_run(), {1, 2, 3, 256});
  CHECK(run.size() == 4 * 257);
  CHECK(probe_logits(byte_run() + "/checkpoints/step-00000012", {1, 2, 3, 256}) == run);
  CHECK(probe_logits(byte_run() + "/checkpoints/step-00000004", {1, 2, 3, 256}) != run);
}

TEST_CASE("probe: one token alone has logits and no loss") {
  const auto one = probe_logits(golden + "norm", {7}), two = probe_logits(golden + "norm", {7, 8});
  CHECK(difference(one, {two.begin(), two.begin() + 67}) < 1e-6);
  const Ran ran = probe(golden + "norm", tokens_file({7}), "--gradients");
  REQUIRE(ran.code == 0);
  const SafetensorsFile file(out_file());
  CHECK(file.read_f32("loss")[0] == 0);
  for (float g : file.read_f32("grad.lm_head.weight")) CHECK(g == 0);
}
