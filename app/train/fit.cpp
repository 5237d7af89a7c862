#include "app/train/fit.h"

#include "app/train/engine.h"
#include "app/train/memory_plan.h"
#include "app/train/trainer.h"
#include "core/limits.h"
#include "core/virtual_device.h"
#include "cpu/device.h"

#include <algorithm>
#include <functional>

namespace ft {

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

double gib(int64_t bytes) { return static_cast<double>(bytes) / kGiB; }

struct Remedy {
  std::string words;
  std::function<bool(Config&)> apply;  // false: changes nothing
};

std::vector<Remedy> remedies() {
  return {
      {"train.recompute: full",
       [](Config& c) { return std::exchange(c.train.recompute, "full") != "full"; }},
      {"train.micro_batch: 1",
       [](Config& c) { return std::exchange(c.train.micro_batch, 1) != 1; }},
      {"train.precision: bf16, train.residual: bf16",
       [](Config& c) {
         const bool changed = c.train.precision != "bf16" || c.train.residual != "bf16";
         c.train.precision = c.train.residual = "bf16";
         return changed;
       }},
      {"half of data.sequence_length",
       [](Config& c) {
         c.data.sequence_length = std::max<int64_t>(1, c.data.sequence_length / 2);
         return true;
       }},
  };
}

}  // namespace

int64_t machine_memory() { return memory_of_each(read_limits(), 1); }

std::unique_ptr<Device> planning_device(const Config& config, const Ranks& ranks) {
  cpu::use_threads(ranks.planned() > 0 ? ranks.planned() : config.run.threads);
  return virtual_device(ranks.device, ranks.memory > 0 ? ranks.memory : machine_memory(), "plan");
}

int64_t planned_memory(const Config& config, const Ranks& ranks) {
  const auto device = planning_device(config, ranks);
  Engine engine(*device, engine_options(config, true));
  return sum_of(memory_of_run(config, engine, ranks.count));
}

Config resolve(Config config, int64_t memory, const Ranks& ranks) {
  auto& t = config.train;
  if (t.residual.empty()) t.residual = t.precision;
  if (t.recompute != "auto" || config.data.sequence_length == 0) return config;
  for (const char* policy : {"none", "selective", "full"}) {
    t.recompute = policy;
    if (static_cast<double>(planned_memory(config, ranks)) <= 0.9 * static_cast<double>(memory))
      break;
  }
  return config;
}

std::string fit_problem(const Config& config, int64_t memory, const Ranks& ranks) {
  const int64_t needed = planned_memory(config, ranks);
  if (needed <= memory) return "";
  std::string text = fmt::format(
      "the run needs {:.1f} GiB a rank; {:.1f} GiB are there: {:.1f} GiB too little.\nWhat would "
      "help, a rank then needing:",
      gib(needed), gib(memory), gib(needed - memory));
  const auto line = [&](const std::string& words, int64_t bytes) {
    text +=
        fmt::format("\n  {:<46}{:>9.1f} GiB{}", words, gib(bytes), bytes <= memory ? "  fits" : "");
  };
  Config all = config;
  int changes = 0;
  for (const Remedy& remedy : remedies()) {
    Config one = config;
    if (!remedy.apply(one)) continue;
    const int64_t then = planned_memory(one, ranks);
    if (then >= needed) continue;
    line(remedy.words, then);
    remedy.apply(all), ++changes;
  }
  const int64_t then = planned_memory(all, ranks);
  if (changes > 1) line("all of these", then);
  if (then > memory)
    text +=
        "\nNothing of it is enough: take a smaller model, fewer ranks on this machine, or a "
        "machine with more memory.";
  return text;
}

}  // namespace ft
