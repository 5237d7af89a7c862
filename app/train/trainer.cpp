#include "app/train/trainer.h"

#include "app/run/resume_changes.h"
#include "app/run/run_start.h"
#include "app/train/memory_plan.h"
#include "core/log.h"
#include "core/observe.h"
#include "parallel/collectives.h"
#include "parallel/health.h"
#include "parallel/initialise.h"

#include <cmath>
#include <iterator>

namespace ft {

namespace {
enum HostWord : size_t { kMemoryPeak, kSignal, kOutOfTime, kHostWords };
enum Read : size_t { kLossSum, kSumSquares, kScalars, kHostWord };
}  // namespace

Engine::Options engine_options(const Config& config, bool is_virtual) {
  return {.model = config.model,
          .precision = precision_of(config.train),
          .plan = {.largest = {config.train.micro_batch, config.data.sequence_length},
                   .recompute = recompute_of(config.train.recompute),
                   .positions = config.data.sequence_length,
                   .z_loss = static_cast<float>(config.train.z_loss),
                   .training = true},
          .is_virtual = is_virtual};
}

Trainer::Trainer(World& world, Device& device, const Config& config, int threads, Guard::Tell tell)
    : world_(world),
      config_(config),
      mesh_(Mesh::build(world, config.parallel.tensor, config.parallel.pipeline,
                        config.parallel.context)),
      device_(device),
      engine_(device, engine_options(config, false)),
      loader_(config.data, config.model.vocab_size, config.run.seed, mesh_.data->rank(),
              mesh_.data->size()),
      watch_(engine_, loader_.source_names(), config.log.norms_every),
      host_word_(engine_.memory().make("inputs", Dtype::F64, {kHostWords})),
      verdict_(device, {engine_.model().loss_sum(), engine_.optimizer().sum_squares(),
                        engine_.optimizer().scalars(), host_word_}),
      guard_(config.guard, std::move(tell)),
      poison_(Poison::from_environment()),
      threads_(threads),
      facts_(process_facts(device, world.all().size(), threads)) {
  recipe_ = recipe_of(config);
  steps_ = steps_left(recipe_, 0);
  planned_memory_ = sum_of(memory_of_rank(config, engine_, world.all().size()));
  with_place(config.source, [&] {
    set_groups(engine_.store(), piece_groups(config.optimizer), config.optimizer.weight_decay);
  });
}

void Trainer::start(const std::optional<std::string>& path) {
  if (path) {
    const Checkpoint checkpoint(*path);
    const State& state = checkpoint.state();
    check_same_model(checkpoint, config_.model, engine_.store());
    engine_.load_checkpoint(checkpoint);
    engine_.store().load_optimizer(checkpoint);
    step_ = checkpoint.number("step");
    tokens_ = checkpoint.number("tokens");
    updates_ = checkpoint.number("updates");
    engine_.optimizer().set_count(updates_);
    steps_ = step_ + steps_left(recipe_, tokens_);
    const Config then = parse_config(checkpoint.text("config"), *path);
    const std::string change = lr_change(then, config_, tokens_);
    if (world_.all().rank() == 0 && !change.empty()) log_warn("{}", change);
    try {
      if (state.contains("guard")) guard_.restore(state.at("guard"));
      const SourceChanges sources = loader_.restore(checkpoint.text("data"));
      for (const std::string& line : sources.lines())
        if (world_.all().rank() == 0) log_info("{}", line);
      changes_ = changes_since(state, *path, config_, facts_, sources);
    } catch (const Error& error) {
      throw Error(fmt::format("{}: {}", *path, error.what()), error.exit_code());
    }
    return;
  }
  if (!config_.model.init_from.empty()) {
    engine_.load_folder(config_.model.init_from);
  } else {
    initialise(engine_.store(), config_.run.seed, threads_);
    engine_.refresh_weights();
  }
}

void Trainer::run_micro_batches(Ctx& c, const std::vector<Batch>& batches,
                                const std::function<void(const Action&)>& after) {
  Extent extent;
  for (const Action& action : one_f_one_b(1, 0, static_cast<int>(batches.size()))) {
    if (action.kind == Action::Forward) {
      extent = engine_.feed(0, batches[static_cast<size_t>(action.micro)]);
      engine_.model().forward(c, 0, extent);
    } else if (action.kind == Action::Backward) {
      c.grad = action.micro == 0 ? Grad::Overwrite : Grad::Accumulate;
      engine_.model().backward(c, 0, extent);
    }
    if (after) after(action);
  }
}

std::string Trainer::first_bad_op(const std::vector<Batch>& batches) {
  Inspector inspector(engine_.memory().transfer());
  Ctx c = engine_.context();
  c.observer = &inspector;
  std::string found;
  run_micro_batches(c, batches, [&](const Action& action) {
    if (found.empty() && !inspector.first_bad().empty())
      found = fmt::format("micro-batch {}, {}, {}", action.micro,
                          action.kind == Action::Forward ? "forward" : "backward",
                          inspector.first_bad());
  });
  return found;
}

// After it all ranks see the same numbers, and none acts on what it alone has seen. The sums of
// squares are of equal gradients; the largest counts, should a machine have added them up otherwise.
void Trainer::exchange_word(Ctx& c) {
  const double host[] = {static_cast<double>(device_.memory_taken()),
                         static_cast<double>(own_stop_signal()),
                         Clock::now() >= stop_at_ ? 1.0 : 0.0};
  static_assert(std::size(host) == kHostWords);
  engine_.memory().transfer().upload(host_word_, host);
  Group& data = *mesh_.data;  // all ranks: there is no other layout
  if (data.size() == 1) return;
  c.where = "word over ranks";
  c(ops::AllReduceParts{.parts = {{"loss_sum", engine_.model().loss_sum(), Reduce::Sum},
                                  {"source_sums", watch_.source_sums(), Reduce::Sum},
                                  {"sum_squares", engine_.optimizer().sum_squares(), Reduce::Max},
                                  {"dt_peaks", engine_.model().dt_peaks(), Reduce::Max},
                                  {"host_word", host_word_, Reduce::Max}},
                        .group = data});
}

void Trainer::launch(const StepBatches& batch, const StepInputs& inputs) {
  Optimizer& optimizer = engine_.optimizer();
  engine_.set_inv_count(static_cast<double>(inputs.labels));
  optimizer.begin(inputs);
  Ctx c = engine_.context();
  watch_.begin(c, step_ + 1);
  poison_.apply(step_ + 1, world_.all().rank(), engine_.store());
  run_micro_batches(c, batch.micro, [&](const Action& action) {
    if (action.kind == Action::Backward)
      watch_.micro_batch(c, batch.micro[static_cast<size_t>(action.micro)]);
  });
  engine_.store().reduce_gradients(c, *mesh_.data);
  optimizer.gradient_norm(c);
  watch_.gradients(c);
  exchange_word(c);
  optimizer.verdict(c, engine_.model().loss_sum(), config_.optimizer.clip);
  poison_.heal();
  const auto& o = config_.optimizer;
  optimizer.step(c, {.beta1 = o.betas[0], .beta2 = o.betas[1], .eps = o.eps});
  watch_.read();
  verdict_.start();
}

void Trainer::judge(const StepBatches& batch, StepRecord& r) {
  r.loss = verdict_.values(kLossSum)[0] / static_cast<double>(std::max<int64_t>(r.labels, 1));
  r.grad_norm = std::sqrt(verdict_.values(kSumSquares)[0]);
  const std::vector<double> scalars = verdict_.values(kScalars);
  r.skipped = scalars[ops::kApply] == 0;
  const std::vector<double> host = verdict_.values(kHostWord);
  r.memory_peak = static_cast<int64_t>(host[kMemoryPeak]);
  asked_ = {.signal = static_cast<int>(host[kSignal]), .out_of_time = host[kOutOfTime] != 0};
  const Outcome outcome{
      .step = step_ + 1, .updates = updates_, .loss = r.loss, .grad_norm = r.grad_norm};
  if (r.labels == 0) {
    guard_.leave_out_unlabelled(world_.all(), outcome);
    r.loss = r.grad_norm = kUnknown;
  } else {
    guard_.accept(world_.all(), outcome, [&] {
      poison_.apply(step_ + 1, world_.all().rank(), engine_.store());
      const std::string found = first_bad_op(batch.micro);
      poison_.heal();
      return found;
    });
  }
  updates_ = static_cast<int64_t>(scalars[ops::kCount]);
}

StepRecord Trainer::step() {
  const auto begin = Clock::now();
  const RecipeStep now = recipe_step(recipe_, tokens_);
  StepBatches batch;
  StepRecord r;
  r.labels = together_sum(world_.all(), [&] {
    batch = loader_.next(now.batch, config_.train.micro_batch);
    int64_t valid = 0;
    for (const Batch& micro : batch.micro) valid += micro.valid;
    return valid;
  });
  r.lr = config_.optimizer.lr * now.lr_factor;
  launch(batch, {.lr = static_cast<float>(r.lr),
                 .weight_decay_factor = static_cast<float>(now.weight_decay_factor),
                 .labels = r.labels,
                 .loss_bound = guard_.loss_bound()});
  device_.synchronize({});
  watch_.finish(batch, r);
  judge(batch, r);
  ++step_;
  tokens_ += batch.tokens;
  r.step = step_, r.steps = steps_, r.tokens = tokens_;
  r.batch = now.batch, r.weight_decay = config_.optimizer.weight_decay * now.weight_decay_factor;
  r.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  r.tokens_per_second = static_cast<double>(batch.tokens) / r.seconds;
  r.memory = planned_memory_, r.memory_total = device_.memory_total();
  return r;
}

std::optional<std::pair<double, int64_t>> Trainer::validate(const DataSource& source) {
  Group& data = *mesh_.data;
  std::optional<ValidationBatches> batches;
  together(world_.all(), [&] {
    batches.emplace(source, config_.data, config_.model.vocab_size, config_.validate.sequences,
                    config_.train.micro_batch, data.rank(), data.size());
  });
  Ctx c = engine_.context();
  Grad grad = Grad::Overwrite;
  int64_t valid = 0;
  std::optional<Batch> batch;
  const auto read_next = [&] {
    together(world_.all(), [&] { batch = batches->next(); });
    return batch.has_value();
  };
  while (read_next()) {
    if (stop_requested(world_.all())) return std::nullopt;
    const Extent extent = engine_.feed(0, *batch);
    engine_.model().forward(c, 0, extent);
    engine_.model().loss(c, 0, extent, grad);
    grad = Grad::Accumulate;
    valid += batch->valid;
  }
  const double sum = all_sum(data, engine_.read(engine_.model().loss_sum()));
  valid = all_sum(data, valid);
  return std::pair{valid > 0 ? sum / static_cast<double>(valid) : kUnknown, valid};
}

void Trainer::save(const std::string& directory) {
  State state = {{"config", config_text(config_)},    {"step", std::to_string(step_)},
                 {"tokens", std::to_string(tokens_)}, {"updates", std::to_string(updates_)},
                 {"data", loader_.state()},           {"guard", guard_.state()}};
  state.insert(facts_.begin(), facts_.end());
  save_checkpoint(world_.all(), directory, fmt::format("step-{:08}", step_),
                  share_of_pieces(engine_.store().checkpoint_pieces(true), mesh_.data->rank(),
                                  mesh_.data->size()),
                  state);
}

double unigram_entropy(const DataSource& source, const DataConfig& data, int64_t vocab,
                       int64_t max_sequences) {
  std::vector<double> count(static_cast<size_t>(vocab));
  double total = 0, entropy = 0;
  ValidationBatches batches(source, data, vocab, max_sequences, 1, 0, 1);
  while (const auto batch = batches.next())
    for (int32_t label : batch->labels)
      if (label >= 0) ++count[static_cast<size_t>(label)], ++total;
  for (double n : count)
    if (n > 0) entropy -= n / total * std::log(n / total);
  return entropy;
}

}  // namespace ft
