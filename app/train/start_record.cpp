#include "app/train/start_record.h"

#include "app/run/resume_changes.h"
#include "app/train/plan_text.h"
#include "app/train/start_block.h"
#include "core/log.h"

#include <set>
#include <string>

namespace ft {

namespace {

void record_aside(RunFolder& folder, int64_t step, const RunStart& start) {
  for (const std::string& why : start.passed_over())
    folder.event("passed_over", step, {.texts = {{"why", why}}});
  for (const auto& [from, to, why] : start.moves()) {
    log_warn("{} was moved to {}: {}", from, to, why);
    folder.event("moved", step, {.texts = {{"from", from}, {"to", to}, {"why", why}}});
  }
}

void record_init_from(RunFolder& folder, const Config& config, Store& store) {
  std::set<std::string> names;
  store.for_pieces([&](Param&, Piece& piece) { names.insert(piece.name); });
  const auto tensors = static_cast<double>(names.size());
  const auto parameters = static_cast<double>(store.parameters());
  log_info("weights: {} tensors, {} parameters from {}", tensors, grouped_count(store.parameters()),
           config.model.init_from);
  folder.event("init_from", 0,
               {.texts = {{"path", config.model.init_from}},
                .numbers = {{"tensors", tensors}, {"parameters", parameters}}});
}

void record_resume(RunFolder& folder, const Config& config, const Trainer& trainer,
                   const std::string& from) {
  const auto& changes = trainer.changes();
  const auto voids = not_bitwise(changes, config);
  log_info("resumed from {} at step {}", from, trainer.steps_done());
  for (const auto& [what, before, now] : changes)
    log_info("changed since: {}: {} -> {}", what, before, now);
  const std::string bitwise =
      voids.empty() ? "yes" : fmt::format("no: {} changed", fmt::join(voids, ", "));
  if (!voids.empty())
    log_warn("the run goes on, but not bit for bit as it would have: {} changed",
             fmt::join(voids, ", "));
  folder.event("resume", trainer.steps_done(),
               {.texts = {{"from", from}, {"bitwise", bitwise}}, .changed = changes});
}

}  // namespace

void record_start(RunFolder& folder, const Config& config, Trainer& trainer, const RunStart& start,
                  const StartFigures& figures) {
  Engine& engine = trainer.engine();
  log_info("{}", start_text(config, engine, figures.ranks));
  log_info("{}", run_text(config, trainer.tokens_done()));
  if (const std::string words = figures.yardstick.words(); !words.empty()) log_info("{}", words);
  log_info("{}", trainer.loader().description());
  const int64_t step = trainer.steps_done();
  RunFacts facts{.texts = trainer.facts(),
                 .numbers = {{"ranks", figures.ranks.count},
                             {"threads", figures.ranks.planned()},
                             {"parameters", static_cast<double>(engine.store().parameters())},
                             {"model_flops_per_token", figures.flops_per_token},
                             {"sgemm_flops", figures.yardstick.flops},
                             {"steps", static_cast<double>(trainer.steps_total())}}};
  for (const char* number : {"ranks", "threads"}) facts.texts.erase(number);
  facts.texts["pattern"] = engine.model().pattern();
  facts.texts["resumed_from"] = start.checkpoint().value_or("");
  facts.texts["init_from"] = config.model.init_from;
  folder.event("start", step, facts);
  record_aside(folder, step, start);
  if (start.checkpoint()) record_resume(folder, config, trainer, *start.checkpoint());
  else if (!config.model.init_from.empty()) record_init_from(folder, config, engine.store());
}

}  // namespace ft
