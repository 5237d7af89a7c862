#include "app/train/plan_text.h"

#include "app/train/fit.h"
#include "app/train/memory_plan.h"
#include "app/train/recipe.h"
#include "app/train/start_block.h"
#include "app/train/trainer.h"

#include <algorithm>
#include <map>

namespace ft {

namespace {

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
  std::map<std::string, int64_t> parts;
  engine.store().for_pieces([&](Param&, Piece& piece) { parts[piece.part] += piece.size(); });
  std::string text = fmt::format("model: {} parameters (", engine.store().parameters());
  const char* separator = "";
  for (const auto& [part, n] : parts) {
    text += fmt::format("{}{} {}", separator, part, n);
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
  const double one = forward.model_flops / tokens, executed = engine.count(true).flops / tokens;
  std::string parts;
  double others = 0;
  for (const auto& [op, flops] : forward.flops_by_op) others += flops / tokens;
  for (const auto& [op, words] : {std::pair{"gemm", "matrix products"},
                                  {"attention", "attention"},
                                  {"ssd", "state-space scan"}}) {
    const auto found = forward.flops_by_op.find(op);
    if (found == forward.flops_by_op.end()) continue;
    parts += fmt::format("{}{} {:.4g}", parts.empty() ? "" : ", ", words, found->second / tokens);
    others -= found->second / tokens;
  }
  return fmt::format(
      "FLOPs per token: forward {:.4g}, model (3 x forward) {:.4g}, executed {:.4g}\n  forward: {}; "
      "not counted: {:.4g} of convolution, norms, gates and others",
      one, 3 * one, executed, parts, others);
}

std::string layout_text(const Config& config, const Ranks& ranks) {
  const int64_t micro = config.train.micro_batch;
  std::string text = fmt::format("layout: {} rank{}, data parallel {}; sequence {}; recompute {}\n",
                                 ranks.count, ranks.count == 1 ? "" : "s", ranks.count,
                                 config.data.sequence_length, config.train.recompute);
  if (config.schedule.batch_ramp.empty())
    return text + "batch: " + batch_text(config.train.global_batch, micro, ranks.count);
  text += "batch:";
  for (const auto& [tokens, batch] : config.schedule.batch_ramp)
    text += fmt::format("\n  from {} tokens on: {}", tokens, batch_text(batch, micro, ranks.count));
  return text;
}

std::string memory_text(DeviceKind device, const MemoryLines& lines) {
  std::string text = device == DeviceKind::Cuda
                         ? "memory per rank (MiB of its GPU):"
                         : "memory per rank (MiB, the peak that is resident):";
  const auto line = [&](const std::string& name, int64_t bytes) {
    text += fmt::format("\n  {:<30}{:>12.1f}", name, static_cast<double>(bytes) / 1048576);
  };
  for (const auto& [name, bytes] : lines) line(name, bytes);
  line("total", sum_of(lines));
  return text;
}

}  // namespace

std::string batch_text(int64_t batch, int64_t micro, int64_t ranks) {
  const int64_t each = batch / ranks, whole = each / micro, rest = each % micro;
  std::string of_rank;
  if (whole > 0) of_rank = fmt::format("{} x micro-batch {}", whole, micro);
  if (rest > 0) of_rank += fmt::format("{}1 x {}", whole > 0 ? " + " : "", rest);
  if (whole > 0 && rest > 0) of_rank = "(" + of_rank + ")";
  return fmt::format("{} sequence{} a step = {} rank{} x {}{}", batch, batch == 1 ? "" : "s", ranks,
                     ranks == 1 ? "" : "s", of_rank,
                     whole > 0 ? "" : fmt::format(" (train.micro_batch {} allows more)", micro));
}

std::string start_text(const Config& config, Engine& engine, const Ranks& all) {
  const int ranks = all.count;
  return parameters_text(config, engine) + "\n" + flops_text(config, engine) + "\n" +
         layout_text(config, all) + "\n" +
         (all.words.empty() ? "" : "threads: " + all.words + "\n") +
         fmt::format("communication per step and rank: {:.1f} MiB of gradients\n",
                     engine.count_update(ranks).link_bytes / 1048576) +
         memory_text(engine.device().kind(), memory_of_rank(config, engine, ranks));
}

std::string plan_text(const Config& config, const Ranks& ranks) {
  const auto device = planning_device(config, ranks);
  Engine engine(*device, engine_options(config, true));
  with_place(config.source, [&] {
    set_groups(engine.store(), piece_groups(config.optimizer), config.optimizer.weight_decay);
  });
  return start_text(config, engine, ranks) + "\n" + classes_text(engine.store()) +
         (config.train.tokens > 0 ? "\n" + run_text(config) : "");
}

}  // namespace ft
