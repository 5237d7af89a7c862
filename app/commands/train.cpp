// train: the loop, on one page.
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/run/progress.h"
#include "app/run/run_folder.h"
#include "app/run/run_start.h"
#include "app/text/run_text.h"
#include "app/train/fit.h"
#include "app/train/plan_text.h"
#include "app/train/rank_facts.h"
#include "app/train/saver.h"
#include "app/train/start_block.h"
#include "app/train/start_record.h"
#include "app/train/trainer.h"
#include "app/train/validator.h"
#include "app/train/yardstick.h"
#include "core/log.h"
#include "cuda/device.h"
#include "data/set_info.h"
#include "data/sources.h"
#include "parallel/health.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace ft {

namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> sets;
  std::string resume = "auto";  // auto | none | a checkpoint's path
  bool dry_run = false;
  bool help_config = false;
};

constexpr int kSavedOnSignal = 75;

std::string folder_of(const Config& config) { return config.run.directory + "/" + config.run.name; }

class Loop {
 public:
  // ranks, yardstick: its threads and the yardstick of MFU.
  Loop(World& world, Device& device, const Config& config, const std::string& resume,
       RunStart& start, const Ranks& ranks, const Yardstick& yardstick)
      : world_(world),
        config_(config),
        resume_(resume),
        path_(folder_of(config)),
        ranks_(ranks),
        yardstick_(yardstick) {
    const Trainer::Clock::time_point begin = Trainer::Clock::now();
    together(world.all(), [&] {
      trainer_.emplace(world, device, config_, ranks.planned(),
                       [this](auto& event, int64_t step, auto& facts) {
                         if (folder_) folder_->event(event, step, facts);
                       });
      if (const int64_t limit = config_.run.stop_before; limit > 0)
        trainer_->set_stop_at(begin + std::chrono::duration<double>(static_cast<double>(limit)));
      trainer_->start(start.checkpoint());
    });
    validator_.emplace(world, config_, *trainer_);
    const Extent extent{config.train.micro_batch, config.data.sequence_length};
    flops_per_token_ =
        3 * trainer_->engine().count(false).model_flops / static_cast<double>(extent.tokens());
    agree(world.all(),
          start_facts(config_, trainer_->engine(),
                      trainer_->loader().description() + "\n" + trainer_->loader().state(),
                      start.checkpoint()));
    // All that can be refused has been looked at.
    start.make_room(world);
    together(world.all(), [&] {
      if (chief()) open_folder(start);
    });
    log_words_to(path_ + "/log.txt");
    record_failures_in(path_, world.all().rank());
    failure_step(trainer_->steps_done());
    saver_.emplace(world, config_, *trainer_, path_ + "/checkpoints", folder());
  }

  int run() {
    if (stop_requested(world_.all())) {
      if (chief()) log_info("stopped by a signal before the first step: nothing is to be saved");
      end("stop", {{"why", "a signal before the first step"}});
      return kSavedOnSignal;
    }
    try {
      return steps();
    } catch (const SharedError& error) {  // at work, whatever it was: exit code 1
      throw SharedError(error.what(), began_ ? 1 : error.exit_code());
    } catch (const ConfigError& error) {
      throw Error(error.what(), began_ ? 1 : error.exit_code());
    }
  }

 private:
  bool chief() const { return world_.all().rank() == 0; }
  RunFolder* folder() { return folder_ ? &*folder_ : nullptr; }

  int steps() {
    const int64_t begin = trainer_->steps_done(), total = trainer_->steps_total();
    if (chief() && begin >= total)
      log_info("nothing is left to do: step {} of {}; raise train.tokens to go on", begin, total);
    if (begin == 0 && config_.validate.at_start) validator_->run(0, false, folder(), progress_);
    if (begin > 0 && validator_->is_due(begin, total))
      validator_->catch_up(begin, begin == total, folder(), progress_);
    while (trainer_->steps_done() < total) {
      began_ = true;
      StepRecord r = trainer_->step();
      report(r);
      const bool last = r.step == r.steps;
      std::string stop = asked_to_stop();
      if (last || !stop.empty()) saver_->save_last(progress_);
      else if (saver_->is_due(r.step)) saver_->save(progress_);
      if (validator_->is_due(r.step, r.steps) && !validate(r.step, last, stop)) {
        stop = signal_name(stop_signal(world_.all()));
        saver_->save_last(progress_);
      }
      if (!stop.empty() && !last) return stopped(stop);
    }
    end("done", {{"path", saver_->path()}});
    if (chief()) log_info("done: {} steps; run folder {}", trainer_->steps_done(), path_);
    return 0;
  }

  // What has asked the run to end before its last step; empty: nothing.
  std::string asked_to_stop() const {
    const Trainer::Asked& asked = trainer_->asked();
    if (asked.signal != 0) return signal_name(asked.signal);
    return asked.out_of_time ? "run.stop_before" : "";
  }

  // False where a signal came in between. A run that is to end does not wait for what it can do when
  // it goes on.
  bool validate(int64_t step, bool last, const std::string& stop) {
    if (stop.empty() && validator_->run(step, last, folder(), progress_)) return true;
    if (chief())
      log_info("the validation after step {} is left out: it is made up for when the run goes on",
               step);
    return !stop.empty();
  }

  int stopped(const std::string& why) {
    end("stop", {{"why", why}, {"path", saver_->path()}});
    if (chief())
      log_info("stopped by {} after step {}; saved {}; the same command{} goes on from there", why,
               trainer_->steps_done(), saver_->path(),
               resume_ == "auto" ? "" : " with --resume auto");
    return kSavedOnSignal;
  }

  void open_folder(const RunStart& start) {
    folder_.emplace(path_, config_text(config_), trainer_->steps_done(), config_.log.tensorboard);
    keep_run_text(path_, config_);
    log_open(path_ + "/log.txt", true);
    record_start(*folder_, config_, *trainer_, start,
                 {.ranks = ranks_, .yardstick = yardstick_, .flops_per_token = flops_per_token_});
    keep(yardstick_, path_);
  }

  void end(const char* event, const std::map<std::string, std::string>& texts) {
    if (!chief()) return;
    progress_.clear();
    if (const std::string pace = pace_.summary(); !pace.empty()) log_info("{}", pace);
    folder_->event(event, trainer_->steps_done(), {.texts = texts});
  }

  void report(StepRecord& r) {
    failure_step(r.step);
    r.mfu = flops_per_token_ * r.tokens_per_second / yardstick_.flops;
    pace_.add(r);
    r.eta = pace_.recent_seconds() * static_cast<double>(r.steps - r.step);
    if (!chief()) return;
    folder_->add(r);
    progress_.show(r);
    if (r.step % std::max<int64_t>(config_.log.every, 1) == 0 || r.step == r.steps)
      log_info("{}", step_line(r));
    if (pace_.is_first_measure() && r.step < r.steps)
      log_info("{}", time_text(r.steps - r.step, pace_.recent_seconds()));
  }

  World& world_;
  Config config_;
  std::string resume_, path_;
  std::optional<RunFolder> folder_;  // of rank 0
  std::optional<Trainer> trainer_;
  Ranks ranks_;
  Yardstick yardstick_;
  std::optional<Validator> validator_;
  std::optional<Saver> saver_;
  Pace pace_;
  Progress progress_;
  double flops_per_token_ = 0;
  bool began_ = false;  // the first step
};

// The configuration of a checkpoint that stands in for a file which the model section names and
// which is gone; empty: there is no need of one, or none. Rank 0 looks, the others hear.
std::string model_of_checkpoint(World& world, const TrainOptions& options) {
  Group& all = world.all();
  std::string folder, text;
  on_rank_0(all, [&] {
    const auto run = run_of_missing_model(options.config, options.sets);
    if (run) folder = run->directory + "/" + run->name;
  });
  folder = broadcast_text(all, folder, 0);
  if (folder.empty()) return "";
  const auto from = find_beginning(all, folder, options.resume).checkpoint;
  on_rank_0(all, [&] {
    if (from) text = Checkpoint(*from).text("config");
  });
  return broadcast_text(all, text, 0);
}

Fact options_fact(const TrainOptions& options) {
  return {"command line",
          fmt::format("--dry-run: {}\n--resume: {}\n", options.dry_run, options.resume),
          "start all ranks with the same options"};
}

int train(World& world, const TrainOptions& options) {
  const std::string resolved = model_of_checkpoint(world, options);
  Config config;
  together(world.all(), [&] {
    config = load_config(options.config, options.sets, resolved);
    config.data.train = expand_sources(config.data.train, config.data.validation, &config.notes);
    check_for_training(config, world.all().size());
  });
  on_rank_0(world.all(), [&] {
    check_start_tokenizer(config);
    check_sets(config.data, config.model.vocab_size, config.validate.sequences);
  });
  world.set_timeout(config.run.timeout);
  agree(world.all(), {config_fact(config), options_fact(options)});
  const Ranks ranks = ranks_of(world, config.run);
  if (ranks.device == DeviceKind::Cpu && config.run.device == "auto" && cuda::available())
    config.notes.push_back(fmt::format(
        "run.device: auto with {} ranks is the CPU, since this build trains on one GPU: start one "
        "rank to use it",
        ranks.count));
  config = resolve(config, ranks.memory, ranks);
  const std::string problem = fit_problem(config, ranks.memory, ranks);
  FT_CHECK_CONFIG(problem.empty(), "{}", problem);
  if (options.dry_run) {
    if (world.all().rank() == 0) log_info("{}", plan_text(config, ranks));
    return 0;
  }
  for (const std::string& note : config.notes)
    if (world.all().rank() == 0) log_info("note: {}", note);
  RunStart start(world, folder_of(config), options.resume);
  const auto device = open_device(config.run, world);
  // Before the run takes its memory: what the measurement takes is given back.
  const Yardstick yardstick = yardstick_of(world, *device, config, ranks, folder_of(config),
                                           start.checkpoint().has_value());
  Loop loop(world, *device, config, options.resume, start, ranks, yardstick);
  return loop.run();
}

}  // namespace

void add_train(CLI::App& app, Run& run) {
  const auto o = std::make_shared<TrainOptions>();
  auto* c = app.add_subcommand("train", "Pretrain a model");
  c->footer(
      "Example: mpirun -n 2 falcon-train train configs/quickstart.yaml --set optimizer.lr=1e-3");
  c->add_option("CONFIG", o->config, "YAML file");
  c->add_option("--resume", o->resume,
                "auto (newest complete checkpoint of the run), none, or a path")
      ->capture_default_str();
  c->add_flag("--dry-run", o->dry_run, "Stop after the plan");
  c->add_flag("--help-config", o->help_config,
              "Print every setting with type, default and meaning");
  add_sets(c, o->sets, "optimizer.lr=1e-3");
  c->callback([o, &run] {
    run = [o](World& world) {
      if (o->help_config) {
        if (world.all().rank() == 0) std::fputs(config_help().c_str(), stdout);
        return 0;
      }
      FT_CHECK_CONFIG(
          !o->config.empty(),
          "train: CONFIG is missing. Example: falcon-train train configs/quickstart.yaml");
      return train(world, *o);
    };
  });
}

}  // namespace ft
