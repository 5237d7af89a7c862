// bench: what it measures hangs together, and its options do what they say.
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>
#include <set>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

json benched(const std::string& arguments) {
  const Ran ran =
      command("bench tests/train/tiny.yaml --tokens 64 --seconds 0.05 --json - " + arguments);
  INFO(ran.err);
  REQUIRE(ran.code == 0);
  return json::parse(ran.out);
}

}  // namespace

TEST_CASE("bench: every op of a step has its time, its floor and the ceilings they come from") {
  const json all = benched("--threads 2");
  REQUIRE(all["ceilings"].size() == 2);
  const json ceiling = all["ceilings"][1];
  CHECK(ceiling["threads"] == 2);
  CHECK(ceiling["flops"].get<double>() > 1e8);
  CHECK(ceiling["copy_bytes"].get<double>() > 1e7);
  std::set<std::string> names;
  for (const json& op : all["configs"][0]["ops"]) {
    INFO(op.dump());
    names.insert(op["op"].get<std::string>());
    CHECK(op["best_seconds"].get<double>() >= 0);
    CHECK(op["best_seconds"].get<double>() <= op["median_seconds"].get<double>());
    CHECK(op["calls"].get<int>() >= 5);
    CHECK(op["floor_seconds"].get<double>() ==
          Approx(std::max(op["flops"].get<double>() / ceiling["flops"].get<double>(),
                          op["bytes"].get<double>() / ceiling["copy_bytes"].get<double>())));
  }
  for (const char* name :
       {"gemm", "attention", "attention_grad", "ssd", "ssd_grad", "conv1d", "conv1d_grad",
        "gated_norm_grad", "rms_norm_grad", "swiglu_grad", "rope", "embedding_grad",
        "cross_entropy", "adamw", "sum_squares", "step_verdict"})
    CHECK(names.contains(name));
  // A product says its sizes: the down projection of 64 tokens, 48 -> 32.
  bool found = false;
  for (const json& op : all["configs"][0]["ops"])
    if (op["shape"] == "64x32x48") {
      found = true;
      CHECK(op["flops"] == 2.0 * 64 * 32 * 48);
    }
  CHECK(found);
}

TEST_CASE("bench: what ran from a cache is said so, not given more than 100 % of memory's floor") {
  const json all = benched("--threads 1");
  const double copy = all["ceilings"][0]["copy_bytes"].get<double>();
  int64_t in_cache = 0;
  for (const json& op : all["configs"][0]["ops"]) {
    INFO(op.dump());
    in_cache += op["in_cache"].get<bool>();
    CHECK(op["in_cache"].get<bool>() ==
          (op["bytes"].get<double>() / copy > op["best_seconds"].get<double>()));
  }
  const Ran table = command("bench tests/train/tiny.yaml --tokens 64 --seconds 0.05 --threads 1");
  // Sanitizers make ops slower than memory; elsewhere several of this small model are faster.
  if (in_cache > 4) CHECK(has(table.out, "in cache\n"));
}

TEST_CASE("bench: an embedding moves the rows that it touches, not its table") {
  const json all = benched("--filter embedding --threads 1 --set model.vocab_size=5000");
  for (const json& op : all["configs"][0]["ops"])
    if (op["op"] == "embedding") CHECK(op["bytes"] == 2.0 * 64 * 32 * 4 + 64 * 4);
}

TEST_CASE("bench: whole steps, and a profile that accounts for them") {
  for (const std::string precision : {"fp32", "bf16"}) {
    const json one = benched("--step --threads 1 --precision " + precision);
    const json config = one["configs"][0], step = config["step"];
    CHECK(one["ceilings"].size() == 1);
    CHECK(step["tokens_per_second"].get<double>() ==
          Approx(64 / step["best_seconds"].get<double>()));
    CHECK(step["mfu"].get<double>() ==
          Approx(step["model_flops"].get<double>() / step["best_seconds"].get<double>() /
                 one["ceilings"][0]["flops"].get<double>()));
    CHECK(config["profile"]["gemm"]["calls"].get<int>() > 20);
    CHECK(config["profile"]["ssd"]["calls"] == 2);
  }
}

TEST_CASE("bench: what it recomputes follows from its own shape, not from the file's") {
  const json one = benched("--step --threads 1 --set train.micro_batch=20000000");
  CHECK(one["configs"][0]["profile"]["ssd"]["calls"] == 2);  // 4 where forward is replayed
}

TEST_CASE("bench: tables, filters and what it refuses") {
  const std::string base = "bench tests/train/tiny.yaml --tokens 32 --seconds 0.05 --threads 1 ";
  const Ran table = command(base + "--filter ssd");
  CHECK(table.code == 0);
  CHECK(has(table.out, "copy GB/s"));
  CHECK(has(table.out, "of floor"));
  CHECK(has(table.out, "in cache: faster than memory"));
  CHECK(has(table.out, "ssd_grad"));
  CHECK(!has(table.out, "swiglu"));
  CHECK(has(command(base + "--step").out, "MFU"));
  const Ran none = command(base + "--filter nonsense");
  CHECK(none.code == 2);
  CHECK(has(none.err, "nonsense"));
  CHECK(command(base + "--precision fp8").code == 2);
  CHECK(command(base + "--tokens 0").code == 2);
  CHECK(command("bench " + workspace() + "/none.yaml").code == 2);
}
