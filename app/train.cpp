// train: the loop, on one page.
#include "app/ceilings.h"
#include "app/commands.h"
#include "app/fit.h"
#include "app/plan_text.h"
#include "app/progress.h"
#include "app/rank_facts.h"
#include "app/run_folder.h"
#include "app/run_start.h"
#include "app/trainer.h"
#include "core/log.h"
#include "data/sources.h"
#include "parallel/health.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>
#include <string>

namespace ft {

namespace {

constexpr int kSavedOnSignal = 75;

class Loop {
 public:
  // sgemm: FLOP/s of all ranks, the yardstick of MFU.
  Loop(World& world, const Config& config, const std::optional<std::string>& from, double sgemm)
      : world_(world),
        config_(config),
        path_(config.run.directory + "/" + config.run.name),
        checkpoints_(path_ + "/checkpoints"),
        trainer_(world, config),
        sgemm_(sgemm) {
    trainer_.start(from);
    const Extent extent{config.train.micro_batch, config.data.sequence_length};
    flops_per_token_ =
        3 * trainer_.engine().count(false).flops / static_cast<double>(extent.tokens());
  }

  std::vector<Fact> facts(const std::optional<std::string>& from) {
    return start_facts(config_, trainer_.engine(),
                       trainer_.loader().description() + "\n" + trainer_.loader().state(), from);
  }

  void open(const std::optional<std::string>& from) {
    if (chief()) open_folder(from);
    log_words_to(path_ + "/log.txt");
  }

  int run() {
    if (stop_requested(world_.all())) {
      if (chief()) log_info("stopped by a signal before the first step: nothing is to be saved");
      end("stop");
      return kSavedOnSignal;
    }
    if (chief() && trainer_.steps_done() >= trainer_.steps_total())
      log_info("nothing is left to do: step {} of {}; raise train.tokens to go on",
               trainer_.steps_done(), trainer_.steps_total());
    if (config_.validate.at_start && trainer_.steps_done() == 0) validate(0, false);
    while (trainer_.steps_done() < trainer_.steps_total()) {
      StepRecord r = trainer_.step();
      report(r);
      const bool last = r.step == r.steps;
      if (config_.validate.every > 0 && (last || r.step % config_.validate.every == 0))
        validate(r.step, last);
      const bool stop = stop_requested(world_.all()) || out_of_time();
      if (last || stop || save_is_due(r.step)) save(last || stop);
      if (stop && !last) {
        if (chief())
          log_info("stopped by a signal or run.stop_before after step {}; saved", r.step);
        end("stop");
        return kSavedOnSignal;
      }
    }
    end("done");
    if (chief()) log_info("done: {} steps; run folder {}", trainer_.steps_done(), path_);
    return 0;
  }

 private:
  bool chief() const { return world_.all().rank() == 0; }
  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  bool out_of_time() {
    if (config_.run.stop_before <= 0) return false;
    return all_max(world_.all(), elapsed()) >= static_cast<double>(config_.run.stop_before);
  }

  // The run's folder and the block of lines that a run starts with.
  void open_folder(const std::optional<std::string>& from) {
    Engine& engine = trainer_.engine();
    const int ranks = world_.all().size();
    folder_.emplace(path_, config_text(config_), trainer_.steps_done(), config_.log.tensorboard);
    log_open(path_ + "/log.txt", true);
    log_info("{}", start_text(config_, engine, ranks));
    if (!std::isnan(sgemm_))
      log_info(
          "MFU = model FLOPs / measured sgemm of this run ({:.1f} GFLOP/s, all ranks at once); "
          "causal attention counted once, recomputation not counted",
          sgemm_ * 1e-9);
    log_info("{}", trainer_.loader().description());
    if (from) log_info("resumed from {} at step {}", *from, trainer_.steps_done());
    folder_->event("start", trainer_.steps_done(),
                   {.texts = {{"machine", engine.device().description()},
                              {"pattern", engine.model().pattern()},
                              {"resumed_from", from.value_or("")}},
                    .numbers = {{"ranks", ranks},
                                {"parameters", static_cast<double>(engine.store().parameters())},
                                {"model_flops_per_token", flops_per_token_},
                                {"sgemm_flops", sgemm_},
                                {"steps", static_cast<double>(trainer_.steps_total())}}});
  }

  void end(const char* event) {
    if (!chief()) return;
    progress_.clear();
    log_info("{}", pace_.summary());
    folder_->event(event, trainer_.steps_done());
  }

  void report(StepRecord& r) {
    r.mfu = flops_per_token_ * r.tokens_per_second / sgemm_;
    pace_.add(r);
    r.eta = pace_.recent_seconds() * static_cast<double>(r.steps - r.step);
    if (!chief()) return;
    folder_->add(r);
    progress_.show(r);
    if (r.step % std::max<int64_t>(config_.log.every, 1) == 0 || r.step == r.steps)
      log_info("{}", step_line(r));
  }

  void validate(int64_t step, bool last) {
    for (const DataSource& set : config_.data.validation) {
      const Progress::Busy busy(progress_, "validating on " + set.name);
      const auto [loss, tokens] = trainer_.validate(set);
      if (!chief()) continue;
      folder_->add(ValidationRecord{.step = step, .set = set.name, .loss = loss, .tokens = tokens});
      log_info("validation {}: loss {:.4f} over {} tokens", set.name, loss, tokens);
      if (last)
        log_info(
            "validation {}: a model that knows only how often each token occurs would reach {:.4f}",
            set.name,
            unigram_entropy(set, config_.data, config_.model.vocab_size,
                            config_.validate.sequences));
    }
  }

  bool save_is_due(int64_t step) const {
    const int64_t every = config_.checkpoint.every;
    return step == retry_at_ || (every > 0 && step % every == 0);
  }

  // A full disk must not end the run: the error is logged, older checkpoints stay, and saving is
  // tried again before the next one is due. At the end it does matter.
  void save(bool must) {
    const Progress::Busy busy(progress_, "saving a checkpoint");
    retry_at_ = 0;
    if (chief()) folder_->sync();  // what a checkpoint builds on is on the disk before it is
    try {
      trainer_.save(checkpoints_);
    } catch (const SharedError& error) {
      if (must) throw;
      retry_at_ = trainer_.steps_done() + std::max<int64_t>(1, config_.checkpoint.every / 10);
      if (chief())
        log_error(
            "checkpoint of step {} was not saved: {}; older ones stay, the next try is at "
            "step {}",
            trainer_.steps_done(), error.what(), retry_at_);
      return;
    }
    if (!chief()) return;
    try {
      retain_checkpoints(checkpoints_, config_.checkpoint.keep_last, config_.checkpoint.keep_every,
                         [this](const std::string& text) {
                           if (said_.insert(text).second) log_warn("{}", text);
                         });
    } catch (const Error& error) {
      log_error("{}", error.what());
    }
  }

  World& world_;
  Config config_;
  std::string path_, checkpoints_;
  Trainer trainer_;
  double sgemm_;
  std::optional<RunFolder> folder_;
  Pace pace_;
  Progress progress_;
  double flops_per_token_ = 0;
  std::set<std::string> said_;  // about checkpoints that are nobody's to remove
  int64_t retry_at_ = 0;  // step at which a checkpoint that failed is tried again; 0: none did
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

Fact options_fact(const TrainOptions& options) {
  return {"command line",
          fmt::format("--dry-run: {}\n--resume: {}\n", options.dry_run, options.resume),
          "start all ranks with the same options"};
}

}  // namespace

int train(World& world, const TrainOptions& options) {
  Config config;
  together(world.all(), [&] {
    config = load_config(options.config, options.sets);
    config.data.train = expand_sources(config.data.train);
    check_for_training(config, world.all().size());
  });
  world.set_timeout(config.run.timeout);
  agree(world.all(), {config_fact(config), options_fact(options)});
  // The smallest share of any rank, so that all decide alike.
  const int64_t memory = -all_max(world.all(), -(machine_memory() / world.local_size()));
  const int threads = cpu::threads_of_rank(config.run.threads);
  const Ranks ranks{.count = world.all().size(),
                    .threads = static_cast<int>(all_max(world.all(), int64_t{threads}))};
  config = resolve(config, memory, ranks);
  const std::string problem = fit_problem(config, memory, ranks);
  FT_CHECK_CONFIG(problem.empty(), "{}", problem);
  if (options.dry_run) {
    if (world.all().rank() == 0) log_info("{}", plan_text(config, ranks));
    return 0;
  }
  for (const std::string& note : config.notes)
    if (world.all().rank() == 0) log_info("note: {}", note);
  const RunStart start(world, config.run.directory + "/" + config.run.name, options.resume);
  // Before the run takes its memory: what the measurement takes is given back.
  const double sgemm = config.log.mfu
                           ? sgemm_speed(*open_device(config.run, world.local_rank()), world.all())
                           : kUnknown;
  std::optional<Loop> loop;
  together(world.all(), [&] { loop.emplace(world, config, start.checkpoint(), sgemm); });
  agree(world.all(), loop->facts(start.checkpoint()));
  together(world.all(), [&] { loop->open(start.checkpoint()); });
  return loop->run();
}

}  // namespace ft
