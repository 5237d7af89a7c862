// train: the loop, on one page.
#include "app/commands.h"
#include "app/fit.h"
#include "app/plan_text.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "app/run_start.h"
#include "app/trainer.h"
#include "app/yardstick.h"
#include "core/log.h"
#include "data/sources.h"
#include "parallel/health.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

namespace ft {

namespace {

constexpr int kSavedOnSignal = 75;

class Loop {
 public:
  Loop(World& world, const Config& config, const std::optional<std::string>& from,
       const Ranks& ranks, const Yardstick& yardstick)
      : world_(world),
        config_(config),
        path_(config.run.directory + "/" + config.run.name),
        checkpoints_(path_ + "/checkpoints"),
        trainer_(world, config),
        ranks_(ranks),
        yardstick_(yardstick) {
    trainer_.start(from);
    const Extent extent{config.train.micro_batch, config.data.sequence_length};
    flops_per_token_ =
        3 * trainer_.engine().count(false).model_flops / static_cast<double>(extent.tokens());
    if (chief()) open_folder(from);
    log_words_to(path_ + "/log.txt");
  }

  int run() {
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
    folder_.emplace(path_, config_text(config_), trainer_.steps_done(), config_.log.tensorboard);
    log_open(path_ + "/log.txt", true);
    log_info("{}", start_text(config_, engine, ranks_));
    keep(yardstick_, path_);
    if (const std::string words = yardstick_.words(); !words.empty()) log_info("{}", words);
    log_info("{}", trainer_.loader().description());
    if (from) log_info("resumed from {} at step {}", *from, trainer_.steps_done());
    folder_->event("start", trainer_.steps_done(),
                   {.texts = {{"machine", engine.device().description()},
                              {"pattern", engine.model().pattern()},
                              {"resumed_from", from.value_or("")}},
                    .numbers = {{"ranks", ranks_.count},
                                {"threads", ranks_.most},
                                {"parameters", static_cast<double>(engine.store().parameters())},
                                {"model_flops_per_token", flops_per_token_},
                                {"sgemm_flops", yardstick_.flops},
                                {"steps", static_cast<double>(trainer_.steps_total())}}});
  }

  void end(const char* event) {
    if (!chief()) return;
    progress_.clear();
    log_info("{}", pace_.summary());
    folder_->event(event, trainer_.steps_done());
  }

  void report(StepRecord& r) {
    r.mfu = flops_per_token_ * r.tokens_per_second / yardstick_.flops;
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
      retain_checkpoints(checkpoints_, config_.checkpoint.keep_last, config_.checkpoint.keep_every);
    } catch (const Error& error) {
      log_error("{}", error.what());
    }
  }

  World& world_;
  Config config_;
  std::string path_, checkpoints_;
  Trainer trainer_;
  Ranks ranks_;
  Yardstick yardstick_;
  std::optional<RunFolder> folder_;
  Pace pace_;
  Progress progress_;
  double flops_per_token_ = 0;
  int64_t retry_at_ = 0;  // step at which a checkpoint that failed is tried again; 0: none did
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

int train(World& world, const TrainOptions& options) {
  install_stop_signals();
  Config config;
  together(world.all(), [&] {
    config = load_config(options.config, options.sets);
    config.data.train = expand_sources(config.data.train);
    check_for_training(config, world.all().size());
  });
  world.set_timeout(config.run.timeout);
  const Ranks ranks = ranks_of(world, config.run);
  config = resolve(config, ranks.memory, ranks);
  const std::string problem = fit_problem(config, ranks.memory, ranks);
  FT_CHECK_CONFIG(problem.empty(), "{}", problem);
  if (options.dry_run) {
    if (world.all().rank() == 0) log_info("{}", plan_text(config, ranks));
    return 0;
  }
  for (const std::string& note : config.notes)
    if (world.all().rank() == 0) log_info("note: {}", note);
  const std::string folder = config.run.directory + "/" + config.run.name;
  const RunStart start(world, folder, options.resume);
  // Before the run takes its memory: what the measurement takes is given back.
  const Yardstick yardstick =
      yardstick_of(world, config, ranks, folder, start.checkpoint().has_value());
  std::optional<Loop> loop;
  together(world.all(), [&] { loop.emplace(world, config, start.checkpoint(), ranks, yardstick); });
  return loop->run();
}

}  // namespace ft
