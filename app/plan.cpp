// plan: the run, counted without being run.
#include "app/commands.h"
#include "app/fit.h"
#include "app/memory_plan.h"
#include "app/plan_text.h"
#include "app/recipe.h"
#include "app/trainer.h"
#include "core/log.h"
#include "models/falcon_h1/multipliers.h"

#include <algorithm>
#include <map>

namespace ft {

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

std::string kind_of(const std::string& name) {
  if (name.find("embed_tokens") != std::string::npos) return "embedding";
  if (name.find("lm_head") != std::string::npos) return "head";
  if (name.find(".mamba.") != std::string::npos) return "mamba";
  if (name.find(".self_attn.") != std::string::npos) return "attention";
  if (name.find(".feed_forward.") != std::string::npos) return "mlp";
  return "norms";
}

// "PPPPMM" -> "P*4 M*2"
std::string short_pattern(const std::string& pattern) {
  std::string text;
  for (size_t i = 0; i < pattern.size();) {
    const size_t end = std::min(pattern.find_first_not_of(pattern[i], i), pattern.size());
    text += fmt::format("{}{}*{}", text.empty() ? "" : " ", pattern[i], end - i);
    i = end;
  }
  return text;
}

std::string parameters_text(const Config& config, Engine& engine) {
  std::map<std::string, int64_t> kinds;
  engine.store().for_pieces(
      [&](Param&, Piece& piece) { kinds[kind_of(piece.name)] += piece.size(); });
  std::string text = fmt::format("model: {} parameters (", engine.store().parameters());
  const char* separator = "";
  for (const auto& [kind, n] : kinds) {
    text += fmt::format("{}{} {}", separator, kind, n);
    separator = ", ";
  }
  return text + fmt::format("), {} layers, pattern {}", config.model.num_hidden_layers,
                            short_pattern(engine.model().pattern()));
}

// FLOPs of one token: what a forward pass is made of, and what a step takes.
std::string flops_text(const Config& config, Engine& engine) {
  const Extent extent{config.train.micro_batch, config.data.sequence_length};
  const double tokens = static_cast<double>(extent.tokens());
  const Tally forward = engine.count(false);
  const double one = forward.flops / tokens, executed = engine.count(true).flops / tokens;
  std::map<std::string, double> kinds;
  for (const auto& [op, flops] : forward.flops_by_op)
    kinds[op == "gemm"        ? "matrix products"
          : op == "attention" ? "attention"
          : op == "ssd"       ? "state-space scan"
          : op == "conv1d"    ? "convolution"
                              : "other"] += flops / tokens;
  std::string parts;
  for (const char* kind :
       {"matrix products", "attention", "state-space scan", "convolution", "other"})
    if (kinds[kind] > 0)
      parts += fmt::format("{}{} {:.4g}", parts.empty() ? "" : ", ", kind, kinds[kind]);
  return fmt::format(
      "FLOPs per token: forward {:.4g}, model (3 x forward) {:.4g}, executed {:.4g}\n  forward: {}",
      one, 3 * one, executed, parts);
}

std::string layout_text(const Config& config, int ranks) {
  const int64_t batch = config.train.global_batch, micro = config.train.micro_batch;
  return fmt::format(
      "layout: {} rank{}, data parallel {}; global batch {} = {} x micro-batch {} x {} "
      "accumulated; sequence {}; recompute {}",
      ranks, ranks == 1 ? "" : "s", ranks, batch, ranks, micro,
      (batch + ranks * micro - 1) / (ranks * micro), config.data.sequence_length,
      config.train.recompute);
}

std::string memory_text(const MemoryLines& lines) {
  std::string text = "memory per rank (MiB, the peak that is resident):";
  const auto line = [&](const std::string& name, int64_t bytes) {
    text += fmt::format("\n  {:<30}{:>12.1f}", name, static_cast<double>(bytes) / 1048576);
  };
  for (const auto& [name, bytes] : lines) line(name, bytes);
  line("total", sum_of(lines));
  return text;
}

}  // namespace

std::string start_text(const Config& config, Engine& engine, int ranks) {
  const double gradients = 4.0 * static_cast<double>(engine.store().parameters());
  return parameters_text(config, engine) + "\n" + flops_text(config, engine) + "\n" +
         layout_text(config, ranks) + "\n" +
         fmt::format("communication per step and rank: {:.1f} MiB of gradients\n",
                     ranks > 1 ? 2 * gradients * (ranks - 1) / ranks / 1048576 : 0.0) +
         memory_text(memory_of_rank(config, engine, ranks));
}

std::string plan_text(const Config& config, const Ranks& ranks) {
  const auto device = cpu::open_device(ranks.threads > 0 ? ranks.threads : config.run.threads);
  Engine engine(*device, engine_options(config, true));
  with_place(config.source, [&] {
    engine.store().set_groups(piece_groups(config.optimizer), config.optimizer.weight_decay);
  });
  return start_text(config, engine, ranks.count) + "\n" + classes_text(engine.store());
}

namespace {

int plan_multipliers(const PlanOptions& options) {
  const std::string& path = options.config;
  const bool hf = path.ends_with(".json");
  log_info("{}", multipliers_text(hf ? load_hf_config(path, nullptr)
                                     : load_config(path, options.sets).model));
  return 0;
}

}  // namespace

int plan(const PlanOptions& options) {
  if (options.multipliers) return plan_multipliers(options);
  const Config read = load_config(options.config, options.sets);
  const int layout = read.parallel.tensor * read.parallel.pipeline * read.parallel.context;
  FT_CHECK_CONFIG(
      layout == 1,
      "parallel: tensor {} x pipeline {} x context {}: this build trains with data parallelism "
      "only; set them to 1",
      read.parallel.tensor, read.parallel.pipeline, read.parallel.context);
  FT_CHECK_CONFIG(read.data.sequence_length > 0,
                  "data.sequence_length must be given to plan a run");
  FT_CHECK_CONFIG(!options.schedule || read.train.tokens > 0,
                  "train.tokens must be given to show the schedule of a run");
  // Whoever started this process, the ranks are those of --world, on this machine.
  const int world = std::max(1, options.world);
  const Ranks ranks{.count = world, .threads = cpu::threads_of_rank(read.run.threads, world)};
  const int64_t memory =
      options.memory > 0 ? static_cast<int64_t>(options.memory * kGiB) : machine_memory() / world;
  const Config config = resolve(read, memory, ranks);
  for (const std::string& note : config.notes) log_info("note: {}", note);
  log_info("{}", plan_text(config, ranks));
  if (options.schedule) log_info("{}", schedule_text(config));
  const std::string problem = fit_problem(config, memory, ranks);
  if (problem.empty()) return 0;
  FT_CHECK_CONFIG(options.memory == 0, "{}", problem);
  // The machine that plans need not be the one that trains: said, not refused.
  log_warn("on this machine, with {} rank{}, {}\n(--memory GIB plans for another machine.)", world,
           world == 1 ? "" : "s", problem);
  return 0;
}

}  // namespace ft
