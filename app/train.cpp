// train: the loop, on one page.
#include "app/commands.h"
#include "app/plan_text.h"
#include "app/trainer.h"
#include "core/log.h"
#include "data/sources.h"
#include "parallel/health.h"

#include <chrono>
#include <filesystem>

namespace ft {

namespace {

constexpr int kSavedOnSignal = 75;

std::optional<std::string> checkpoint_to_resume(World& world, const TrainOptions& options,
                                                const std::string& folder) {
  std::string chosen;
  if (options.resume == "auto") {
    if (world.all().rank() == 0)
      chosen = newest_checkpoint(folder, [](const std::string& text) {
                 log_warn("{}", text);
               }).value_or("");
    chosen = broadcast_text(world.all(), chosen, 0);
  } else if (options.resume != "none") {
    chosen = options.resume;
  }
  return chosen.empty() ? std::nullopt : std::optional(chosen);
}

class Loop {
 public:
  Loop(World& world, const Config& config, const TrainOptions& options)
      : world_(world),
        config_(config),
        path_(config.run.directory + "/" + config.run.name),
        checkpoints_(path_ + "/checkpoints"),
        trainer_(world, config) {
    const auto from = checkpoint_to_resume(world, options, checkpoints_);
    trainer_.start(from);
    if (chief()) {
      folder_.emplace(path_, config_text(config), trainer_.steps_done());
      log_open(path_ + "/log.txt", true);
      log_info("{}", start_text(config, trainer_.engine(), world.all().size()));
      log_info("{}", trainer_.loader().description());
      if (from) log_info("resumed from {} at step {}", *from, trainer_.steps_done());
    }
  }

  int run() {
    install_stop_signals();
    while (trainer_.steps_done() < trainer_.steps_total()) {
      StepRecord r = trainer_.step();
      report(r);
      const bool last = r.step == r.steps;
      if (config_.validate.every > 0 && (last || r.step % config_.validate.every == 0))
        validate(r.step, last);
      const bool stop = stop_requested(world_.all()) || out_of_time();
      if (last || stop || (config_.checkpoint.every > 0 && r.step % config_.checkpoint.every == 0))
        save(last || stop);
      if (stop && !last) {
        if (chief())
          log_info("stopped by a signal or run.stop_before after step {}; saved", r.step);
        return kSavedOnSignal;
      }
    }
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

  void report(StepRecord& r) {
    average_ = average_ <= 0 || r.step < 3 ? r.seconds : 0.9 * average_ + 0.1 * r.seconds;
    r.eta = average_ * static_cast<double>(r.steps - r.step);
    if (!chief()) return;
    folder_->add(r);
    if (r.step % std::max<int64_t>(config_.log.every, 1) == 0 || r.step == r.steps)
      log_info("{}", step_line(r));
  }

  void validate(int64_t step, bool last) {
    for (const DataSource& set : config_.data.validation) {
      const auto [loss, tokens] = trainer_.validate(set);
      if (!chief()) continue;
      folder_->add_validation(step, set.name, loss, tokens);
      log_info("validation {}: loss {:.4f} over {} tokens", set.name, loss, tokens);
      if (last)
        log_info(
            "validation {}: a model that knows only how often each token occurs would reach {:.4f}",
            set.name,
            unigram_entropy(set, config_.data, config_.model.vocab_size,
                            config_.validate.sequences));
    }
  }

  // A full disk must not end the run: the error is logged, older checkpoints stay. At the end it
  // does matter.
  void save(bool must) {
    try {
      trainer_.save(checkpoints_);
    } catch (const Error& error) {
      if (must) throw;
      if (chief())
        log_error("checkpoint of step {} was not saved: {}", trainer_.steps_done(), error.what());
      return;
    }
    if (chief())
      retain_checkpoints(checkpoints_, config_.checkpoint.keep_last, config_.checkpoint.keep_every);
  }

  World& world_;
  Config config_;
  std::string path_, checkpoints_;
  Trainer trainer_;
  std::optional<RunFolder> folder_;
  double average_ = 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

int train(World& world, const TrainOptions& options) {
  Config config = resolve(load_config(options.config, options.sets));
  config.data.train = expand_sources(config.data.train);
  world.set_timeout(config.run.timeout);
  check_for_training(config, world.all().size());
  if (options.dry_run) {
    if (world.all().rank() == 0) log_info("{}", plan_text(config, world.all().size()));
    return 0;
  }
  for (const std::string& note : config.notes)
    if (world.all().rank() == 0) log_info("note: {}", note);
  Loop loop(world, config, options);
  return loop.run();
}

}  // namespace ft
