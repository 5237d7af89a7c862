// Memory of a step: planned before the first, never grown after it.
#include "app/train/fit.h"
#include "app/train/trainer.h"
#include "cpu/common.h"
#include "tests/catch.h"
#include "tests/train/run.h"
#include "tests/world.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <sstream>
#include <thread>

using namespace ft;
using namespace ft::test;

TEST_CASE("train: nothing is allocated after the first step", "[memory]") {
  const std::string recompute = GENERATE("none", "selective", "full");
  const std::string precision = GENERATE("fp32", "bf16");
  const std::string set = make_set();
  Config config = load_config("tests/train/tiny.yaml",
                              {"data.train.0.path=" + set, "train.recompute=" + recompute,
                               "train.precision=" + precision, "train.micro_batch=3"});
  const auto device = open_device(config.run, world());
  Trainer trainer(world(), *device, resolve(config));
  trainer.start(std::nullopt);
  trainer.step();
  const int64_t allocations = trainer.engine().device().allocations();
  const int64_t growths = cpu::workspace_growths();
  for (int step = 0; step < 4; ++step) trainer.step();
  CHECK(trainer.engine().device().allocations() == allocations);
  CHECK(cpu::workspace_growths() == growths);
  CHECK(allocations > 0);
}

// Workspaces live as long as their threads: each case in threads that no other op has used.
TEST_CASE("train: workspaces take what the plan counted", "[memory]") {
  const int threads = GENERATE(1, 3);
  const std::string precision = GENERATE("fp32", "bf16"), recompute = GENERATE("none", "full");
  const std::string sets = fmt::format(
      "train.recompute={} train.precision={} run.threads={} train.micro_batch=3 log.norms_every=1",
      recompute, precision, threads);
  INFO(sets);
  int64_t taken = 0, planned = 0;
  const std::string set = make_set();
  const int64_t before = cpu::workspace_bytes();
  std::thread([&] {
    std::vector<std::string> all = {"data.train.0.path=" + set, "model.vocab_size=9000"};
    for (std::istringstream words(sets); words >> all.emplace_back();) {
    }
    all.pop_back();
    const Config config = load_config("tests/train/tiny.yaml", all);
    const auto device = open_device(config.run, world());
    Trainer trainer(world(), *device, resolve(config));
    trainer.start(std::nullopt);
    trainer.step();
    taken = cpu::workspace_bytes() - before;
    planned = trainer.engine().workspaces().total(threads);
  }).join();
  // The helpers of a thread that ended go in their own time, and their memory with them.
  for (int i = 0; i < 1000 && cpu::workspace_bytes() != before; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(cpu::workspace_bytes() == before);
  CHECK(taken <= planned);
  // Threads that found no work took nothing, and so did ops of the 1-sequence pass alone.
  CHECK(static_cast<double>(taken) > 0.5 * static_cast<double>(planned));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {

// The plan's total and the peak that the last step saw, in MiB.
std::pair<double, double> planned_and_peak(const std::string& name) {
  const std::string log = read_text(workspace() + "/" + name + ".log");
  const size_t at = log.find("  total ");
  REQUIRE(at != std::string::npos);
  const double planned = std::stod(log.substr(at + 8));
  nlohmann::json step;
  std::istringstream lines(read_text(workspace() + "/" + name + "/t/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) step = nlohmann::json::parse(line);
  CHECK(step["memory_planned_bytes"].get<double>() / 1048576 == Approx(planned).epsilon(0.01));
  return {planned, step["memory_peak_bytes"].get<double>() / 1048576};
}

}  // namespace

TEST_CASE("train: the peak of resident memory is about what plan said", "[memory]") {
  const auto [name, ranks, sets] = GENERATE(table<std::string, int, std::string>({
      {"peak-1", 1, "run.threads=1"},
      {"peak-2", 2, "run.threads=1"},
      {"peak-bf16", 1, "run.threads=2 train.precision=bf16"},
      {"peak-full", 1, "run.threads=2 train.recompute=full"},
      {"peak-mfu", 1, "run.threads=2 log.mfu=true"},
  }));
  INFO(name);
  // Some 60 MiB, of which a fifth is the process, whose size is the machine's.
  REQUIRE(train(name, ranks,
                "model.hidden_size=128 model.intermediate_size=256 data.sequence_length=128 "
                "model.vocab_size=8192 train.global_batch=16 train.micro_batch=8 "
                "train.tokens=4096 checkpoint.every=1 " +
                    sets) == 0);
  const auto [planned, peak] = planned_and_peak(name);
  CHECK(peak == Approx(planned).epsilon(0.20));
}
#endif
