// plan: the run, counted without being run.
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/config/config_check.h"
#include "app/machine/gpus.h"
#include "app/train/fit.h"
#include "app/train/memory_plan.h"
#include "app/train/plan_text.h"
#include "app/train/recipe.h"
#include "app/train/start_block.h"
#include "app/train/trainer.h"
#include "core/log.h"
#include "core/platform.h"
#include "core/path.h"
#include "data/set_info.h"
#include "data/sources.h"
#include "models/decoder/multipliers.h"
#include "models/families/config_file.h"
#include "models/families/family.h"

#include <algorithm>
#include <map>
#include <memory>

namespace ft {

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct PlanOptions {
  std::string config;
  std::vector<std::string> sets;
  int world = 0;          // ranks; 0: as few as the layout needs
  std::string gpu;        // its name: each rank has one; empty: what run.device means here
  double memory = 0;      // GiB a rank may take: exit code 2 where that is too little; 0: not asked
  bool schedule = false;  // also a table of learning rate, weight decay and batch
  bool multipliers = false;  // the closed-form multipliers of this shape alone
};

int plan_multipliers(const PlanOptions& options) {
  const std::string& path = options.config;
  const bool hf = path.ends_with(".json");
  const ModelConfig model =
      hf ? load_hf_config(path, nullptr) : load_config(path, options.sets).model;
  FT_CHECK_CONFIG(family_of(model).has("embedding_multiplier"),
                  "{}: a {} model has no multipliers; plan it without --multipliers", path,
                  model.model_type);
  log_info("{}", multipliers_text(model));
  return 0;
}

// Refuses the sets that are named and here as train would; the others are left for the machine that
// trains. Returns the sources of data.train, with patterns and folders resolved to what they name here.
std::vector<DataSource> check_data(const Config& config) {
  DataConfig here = config.data;
  std::vector<DataSource> all;
  here.train.clear(), here.validation.clear();
  const auto add = [](const DataSource& source, std::vector<DataSource>& to) {
    if (exists(source.path + ".idx")) to.push_back(source);
    else log_info("note: {}.idx is not here; train would ask for it", source.path);
  };
  for (const DataSource& source : config.data.train) try {
      for (const DataSource& one : expand_sources({source}, config.data.validation)) {
        add(one, here.train);
        all.push_back(one);
      }
    } catch (const ConfigError& error) {
      log_info("note: {}", error.what());
      all.push_back(source);
    }
  for (const DataSource& source : config.data.validation) add(source, here.validation);
  if (!here.train.empty() || !here.validation.empty())
    check_sets(here, config.model.vocab_size, config.validate.sequences);
  return all;
}

// The checks of train, with the same words, as far as they can be made without its machine.
std::vector<DataSource> check_as_train(const Config& config, int ranks) {
  FT_CHECK_CONFIG(config.data.sequence_length > 0,
                  "data.sequence_length must be given to plan a run");
  check_batches(config, ranks);
  return check_data(config);
}

int64_t bytes_of(double gib) {
  constexpr double kMost = 1e9;  // GiB; more is no memory
  return static_cast<int64_t>(std::min(gib, kMost) * kGiB);
}

Ranks ranks_of_plan(const PlanOptions& options, RunConfig run, int world) {
  if (options.gpu.empty()) return planned_ranks(run, world);
  FT_CHECK_CONFIG(kBuiltWithCuda,
                  "--gpu: this build has no CUDA backend, whose needs a plan would have to count; "
                  "use a build with it (cmake --preset cuda)");
  run.device = "cpu";  // the machine that plans has none
  Ranks ranks = planned_ranks(run, world);
  ranks.device = DeviceKind::Cuda;
  ranks.memory = memory_of_gpu(options.gpu);
  return ranks;
}

int plan(const PlanOptions& options) {
  if (options.multipliers) return plan_multipliers(options);
  Config read = load_config(options.config, options.sets);
  const int world = std::max(1, options.world);
  with_place(read.source, [&] { read.data.train = check_as_train(read, world); });
  FT_CHECK_CONFIG(!options.schedule || read.train.tokens > 0,
                  "train.tokens must be given to show the schedule of a run");
  const Ranks ranks = ranks_of_plan(options, read.run, world);
  const int64_t memory = options.memory > 0 ? bytes_of(options.memory) : ranks.memory;
  const Config config = resolve(read, memory, ranks);
  for (const std::string& note : config.notes) log_info("note: {}", note);
  log_info("{}", plan_text(config, ranks));
  if (options.schedule) log_info("{}", schedule_text(config));
  const std::string problem = fit_problem(config, memory, ranks);
  if (problem.empty()) return 0;
  FT_CHECK_CONFIG(options.memory == 0 && options.gpu.empty(), "{}", problem);
  // The machine that plans need not be the one that trains: said, not refused.
  log_warn("on this machine, with {} rank{}, {}\n(--memory GIB plans for another machine.)", world,
           world == 1 ? "" : "s", problem);
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Run& run) {
  const auto o = std::make_shared<PlanOptions>();
  auto* c = app.add_subcommand("plan", "Parameters, FLOPs and memory of a run, without running it");
  c->footer(
      "Example: falcon-train plan configs/falcon-h1-0.5b.yaml --world 8 --memory 80 --schedule");
  c->add_option("CONFIG", o->config,
                "YAML file (for --multipliers also a Hugging Face config.json)")
      ->required();
  c->add_option("--world", o->world, "Number of ranks")->transform(whole(1, 1'000'000));
  c->add_option("--gpu", o->gpu,
                "GPU of each rank, which need not be here: " + gpu_names() +
                    "; a run that needs more memory is refused with exit code 2");
  c->add_option("--memory", o->memory,
                "GiB that a rank may take; a run that needs more is refused with exit code 2")
      ->transform(real(Range{.low = 0, .above = true}));
  c->add_flag("--schedule", o->schedule,
              "Also a table of learning rate, weight decay and batch over the run");
  c->add_flag("--multipliers", o->multipliers,
              "Only print the closed-form multipliers of this shape, as YAML");
  add_sets(c, o->sets, "train.tokens=10B");
  c->callback([o, &run] { run = alone([o] { return plan(*o); }); });
}

}  // namespace ft
