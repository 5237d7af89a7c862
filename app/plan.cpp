// plan: the run, counted without being run.
#include "app/commands.h"
#include "app/plan_text.h"
#include "app/trainer.h"
#include "core/log.h"

#include <algorithm>
#include <map>

namespace ft {

namespace {

std::string kind_of(const std::string& name) {
  if (name.find("embed_tokens") != std::string::npos) return "embedding";
  if (name.find("lm_head") != std::string::npos) return "head";
  if (name.find(".mamba.") != std::string::npos) return "mamba";
  if (name.find(".self_attn.") != std::string::npos) return "attention";
  if (name.find(".feed_forward.") != std::string::npos) return "mlp";
  return "norms";
}

}  // namespace

std::string start_text(const Config& config, Engine& engine, int ranks) {
  std::map<std::string, int64_t> kinds;
  engine.store().for_pieces(
      [&](Param&, Piece& piece) { kinds[kind_of(piece.name)] += piece.size(); });
  std::string text = fmt::format("model: {} parameters (", engine.store().parameters());
  const char* separator = "";
  for (const auto& [kind, n] : kinds) {
    text += fmt::format("{}{} {}", separator, kind, n);
    separator = ", ";
  }
  const Extent extent{config.train.micro_batch, config.data.sequence_length};
  const double tokens = static_cast<double>(extent.tokens());
  const double forward = engine.count(false).flops / tokens,
               executed = engine.count(true).flops / tokens;
  text += fmt::format("), {} layers, pattern {}\n", config.model.num_hidden_layers,
                      engine.model().pattern());
  text +=
      fmt::format("FLOPs per token: forward {:.4g}, model (3 x forward) {:.4g}, executed {:.4g}\n",
                  forward, 3 * forward, executed);
  text += fmt::format(
      "layout: {} rank{}, data parallel {}; global batch {} = {} x micro-batch {} x {} "
      "accumulated; "
      "sequence {}\n",
      ranks, ranks == 1 ? "" : "s", ranks, config.train.global_batch, ranks,
      config.train.micro_batch,
      (config.train.global_batch + ranks * config.train.micro_batch - 1) /
          (ranks * config.train.micro_batch),
      config.data.sequence_length);
  const double gradients = 4.0 * static_cast<double>(engine.store().parameters());
  text += fmt::format("communication per step and rank: {:.1f} MiB of gradients\n",
                      ranks > 1 ? 2 * gradients * (ranks - 1) / ranks / 1048576 : 0.0);
  text += "memory per rank (MiB):";
  for (const auto& [segment, bytes] : engine.memory().ledger())
    text += fmt::format("\n  {:<30}{:>12.1f}", segment, static_cast<double>(bytes) / 1048576);
  return text + fmt::format("\n  {:<30}{:>12.1f}", "total",
                            static_cast<double>(engine.memory().total()) / 1048576);
}

std::string plan_text(const Config& config, int ranks) {
  const auto device = cpu::open_device(config.run.threads);
  Engine engine(*device, engine_options(config, true));
  return start_text(config, engine, ranks);
}

int plan(const PlanOptions& options) {
  const Config config = resolve(load_config(options.config, options.sets));
  const int layout = config.parallel.tensor * config.parallel.pipeline * config.parallel.context;
  FT_CHECK_CONFIG(
      layout == 1,
      "parallel: tensor {} x pipeline {} x context {}: this build trains with data parallelism "
      "only; set them to 1",
      config.parallel.tensor, config.parallel.pipeline, config.parallel.context);
  FT_CHECK_CONFIG(config.data.sequence_length > 0,
                  "data.sequence_length must be given to plan a run");
  log_info("{}", plan_text(config, std::max(1, options.world)));
  return 0;
}

}  // namespace ft
