#include "app/train/engine.h"

#include "app/machine/ranks.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "cpu/device.h"
#include "cuda/device.h"
#include "models/families/build.h"
#include "models/families/config_file.h"
#include "models/families/family.h"
#include "models/families/tied_head.h"
#include "parallel/collectives.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

std::unique_ptr<Device> opened(DeviceKind kind, int local_rank, int threads) {
  if (kind == DeviceKind::Cpu) return cpu::open_device(threads);
  cpu::use_threads(threads);  // the host's own work
  return cuda::open_device(local_rank);
}

}  // namespace

std::unique_ptr<Device> open_device(const RunConfig& run, World& world) {
  const Ranks ranks = ranks_of(world, run);
  return opened(ranks.device, world.local_rank(), ranks.threads);
}

std::unique_ptr<Device> open_device(const RunConfig& run) {
  return opened(device_of(run, 1), 0, run.threads);
}

Precision precision_of(const TrainConfig& train) {
  const auto dtype = [](const std::string& name) {
    return name == "bf16" ? Dtype::BF16 : Dtype::F32;
  };
  return {.compute = dtype(train.precision),
          .residual = dtype(train.residual.empty() ? train.precision : train.residual)};
}

Recompute recompute_of(const std::string& name) {
  if (name == "full") return Recompute::Full;
  return name == "selective" ? Recompute::Selective : Recompute::None;
}

Engine::Engine(Device& device, const Options& o)
    : device_(device),
      memory_(device, o.is_virtual),
      model_(build_model(o.model, o.precision)),
      store_([this](const std::function<void(Param&)>& f) { model_.visit(f); }),
      plan_(o.plan) {
  store_.bind(memory_, o.precision, o.plan.training);
  if (o.plan.training) optimizer_.emplace(store_, memory_);
  model_.plan(memory_, o.plan);
  // A smaller micro-batch, as the last of a step may be, can ask an op for more than the largest.
  // All of them up to 63 sequences; of more, which differ little, some.
  for (int64_t sequences = o.plan.largest.sequences; sequences > 0;
       sequences -= std::max<int64_t>(1, sequences / 32))
    workspaces_.add(count_pass({sequences, o.plan.largest.length}, o.plan.training).workspaces);
  workspaces_.add(count_update(1).workspaces);
  const int64_t bytes = scratch_.high_water();
  scratch_.bind(memory_.bytes("scratch", bytes), bytes);
  Ctx c = context();
  model_.prepare(c);
}

Tally Engine::count_update(int ranks) {
  Ctx c(device_, scratch_, false);
  model_.prepare(c);
  store_.refresh_copies(c);
  if (plan_.training) {
    store_.reduce_gradients(c, *counted_group(ranks));
    optimizer_->gradient_norm(c);
    optimizer_->verdict(c, model_.loss_sum(), 1);
    optimizer_->step(c, {});
  }
  return c.tally;
}

Tally Engine::count_pass(const Extent& extent, bool backward) {
  Ctx c(device_, scratch_, false);
  model_.forward(c, 0, extent);
  if (backward) model_.backward(c, 0, extent);
  else model_.loss(c, 0, extent, Grad::Overwrite);
  return c.tally;
}

// Tensors that the model has no place for, as older releases' rotary tables.
static void note_unused(const std::string& folder, const std::vector<std::string>& names,
                        const std::set<std::string>& used) {
  std::vector<std::string> unused;
  for (const std::string& name : names)
    if (!used.contains(name)) unused.push_back(name);
  if (unused.empty()) return;
  const size_t shown = std::min<size_t>(unused.size(), 5);
  log_warn("{}: {} tensor{} without a place in the model {} left out: {}{}", folder, unused.size(),
           unused.size() == 1 ? "" : "s", unused.size() == 1 ? "is" : "are",
           fmt::join(unused.begin(), unused.begin() + static_cast<int64_t>(shown), ", "),
           shown < unused.size() ? ", ..." : "");
}

void Engine::load_folder(const std::string& hf_folder) {
  const SafetensorsFolder folder(hf_folder);
  std::set<std::string> used;
  const auto stored_name = [&](const Piece& piece) {
    const bool other = piece.kind == ParamClass::Embedding && !folder.contains(piece.name) &&
                       model_.config().tie_word_embeddings;
    // One table under the other's name.
    return other ? family_of(model_.config()).tensor_name(kHeadName) : piece.name;
  };
  store_.for_pieces([&](Param&, Piece& piece) {
    const std::string name = stored_name(piece);
    used.insert(name);
    FT_CHECK_CONFIG(folder.contains(name),
                    "{}: tensor {} is missing; the model's configuration asks for it", hf_folder,
                    piece.name);
    const SafetensorsFile& file = folder.file_of(name);
    FT_CHECK_CONFIG(file.info(name).shape == piece.shape,
                    "{}: tensor {} has shape [{}], the configuration asks for [{}]", hf_folder,
                    name, fmt::join(file.info(name).shape, ", "), fmt::join(piece.shape, ", "));
  });
  store_.load([&](const Piece& piece, int64_t row, float* to) {
    const std::string name = stored_name(piece);
    int64_t width = 1;
    for (size_t i = 1; i < piece.shape.size(); ++i) width *= piece.shape[i];
    folder.file_of(name).read_f32(name, (piece.tensor_row + row) * width + piece.tensor_col,
                                  piece.cols, to);
  });
  note_unused(hf_folder, folder.names(), used);
  refresh_weights();
}

void Engine::load_checkpoint(const Checkpoint& checkpoint) {
  store_.load(checkpoint);
  refresh_weights();
}

void Engine::refresh_weights() {
  Ctx c = context();
  store_.refresh_copies(c);
}

// What ops follow into tables without looking: no kernel of a device can refuse it.
void Engine::check(const Batch& batch) const {
  const int64_t vocab = model_.config().vocab_size, n = batch.sequences * batch.length;
  const bool has_positions = model_.config().num_attention_heads > 0;
  for (int64_t t = 0; t < n; ++t) {
    const auto i = static_cast<size_t>(t);
    const int64_t position = t - batch.docs[i];
    FT_CHECK(batch.ids[i] >= 0 && batch.ids[i] < vocab,
             "token {} of a batch has the id {}, outside of the vocabulary of {}", t, batch.ids[i],
             vocab);
    FT_CHECK(batch.labels[i] < vocab,
             "token {} of a batch has the label {}, outside of the vocabulary of {}", t,
             batch.labels[i], vocab);
    FT_CHECK(position >= 0 && (!has_positions || position < plan_.positions),
             "token {} of a batch has position {} of its document; {} were planned", t, position,
             plan_.positions);
  }
}

Extent Engine::feed(int64_t slot, const Batch& batch) {
  const MicroInputs& in = model_.inputs(slot);
  FT_CHECK(batch.sequences * batch.length <= in.ids.size(),
           "a batch of {} x {} tokens does not fit into the {} that were planned", batch.sequences,
           batch.length, in.ids.size());
  check(batch);
  const int64_t n = batch.sequences * batch.length;
  Transfer& transfer = memory_.transfer();
  transfer.upload(in.ids.row_range(0, n), batch.ids.data());
  transfer.upload(in.labels.row_range(0, n), batch.labels.data());
  transfer.upload(in.docs.row_range(0, n), batch.docs.data());
  return {batch.sequences, batch.length};
}

void Engine::set_inv_count(double valid_tokens) {
  const float inverse = valid_tokens > 0 ? static_cast<float>(1.0 / valid_tokens) : 0.0f;
  memory_.transfer().upload(model_.inv_count(), &inverse);
}

ModelSource open_model(const std::string& path) {
  ModelSource source;
  FT_CHECK_CONFIG(fs::exists(path), "{}: there is no such folder, seen from {}", path,
                  fs::current_path().string());
  if (fs::exists(fs::path(path) / "config.json")) {
    source.model = load_hf_config((fs::path(path) / "config.json").string(), nullptr);
    std::vector<std::string> notes;
    untie_other_head(path, source.model, &notes);
    for (const std::string& note : notes) log_warn("{}", note);
    source.folder = path;
    return source;
  }
  std::string chosen = path;
  if (fs::is_directory(fs::path(path) / "checkpoints")) {
    const auto newest = newest_checkpoint((fs::path(path) / "checkpoints").string(),
                                          [](const std::string& text) { log_warn("{}", text); });
    FT_CHECK_CONFIG(newest.has_value(), "{}: the run has no complete checkpoint", path);
    chosen = *newest;
  }
  FT_CHECK_CONFIG(
      fs::exists(fs::path(chosen) / "manifest.json"),
      "{}: neither a Hugging Face folder (config.json) nor a checkpoint (manifest.json) nor a run "
      "(checkpoints/)",
      path);
  source.checkpoint = std::make_shared<Checkpoint>(chosen);
  const Config config = parse_config(source.checkpoint->text("config"), chosen);
  source.model = config.model;
  source.tokenizer = config.data.tokenizer;
  source.data = config.data;
  return source;
}

void load_weights(Engine& engine, const ModelSource& source) {
  if (source.checkpoint) engine.load_checkpoint(*source.checkpoint);
  else engine.load_folder(source.folder);
}

}  // namespace ft
