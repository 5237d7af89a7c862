// probe: one forward (and backward) of a model on given tokens, to compare with another
// implementation.
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/commands/outputs.h"
#include "app/train/engine.h"
#include "app/train/rank_facts.h"
#include "core/log.h"
#include "core/nan.h"
#include "core/safetensors.h"
#include "parallel/mesh.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

namespace ft {

namespace fs = std::filesystem;

namespace {

struct ProbeOptions {
  std::string model, tokens, out;
  std::vector<std::string> sets;
  bool gradients = false;
  bool hidden = false;
};

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Rows {
  int64_t B = 0, T = 0;
  std::vector<int64_t> ids, labels, documents;
  std::string digest() const {
    Digest digest;
    for (const auto* all : {&ids, &labels, &documents})
      digest.add(all->data(), all->size() * sizeof(int64_t));
    return fmt::format("{} rows of {} tokens, digest {}", B, T, digest.text());
  }
};

Rows read_rows(const std::string& path, int64_t vocab) {
  const SafetensorsFile file(path);
  Rows rows;
  const auto& shape = file.info("input_ids").shape;
  FT_CHECK_CONFIG(shape.size() == 2 && shape[0] > 0 && shape[1] > 0,
                  "{}: input_ids must be [B, T] with B, T >= 1", path);
  rows.B = shape[0], rows.T = shape[1];
  rows.ids = file.read_i64("input_ids");
  const auto optional = [&](const char* name, std::vector<int64_t>& into) {
    if (!file.contains(name)) return;
    FT_CHECK_CONFIG(file.info(name).shape == shape, "{}: {} must have the shape of input_ids", path,
                    name);
    into = file.read_i64(name);
  };
  optional("labels", rows.labels);
  optional("document_ids", rows.documents);
  for (size_t i = 0; i < rows.ids.size(); ++i)
    FT_CHECK_CONFIG(rows.ids[i] >= 0 && rows.ids[i] < vocab,
                    "{}: input_ids[{}, {}] = {} is outside the vocabulary of {}", path,
                    static_cast<int64_t>(i) / rows.T, static_cast<int64_t>(i) % rows.T, rows.ids[i],
                    vocab);
  for (int64_t label : rows.labels)
    FT_CHECK_CONFIG(label < vocab, "{}: label {} is outside the vocabulary of {}", path, label,
                    vocab);
  return rows;
}

// Row `row` as a micro-batch of its own.
Batch one_row(const Rows& rows, int64_t row) {
  const auto part = [&](const std::vector<int64_t>& v) {
    if (v.empty()) return std::vector<int64_t>{};
    return std::vector<int64_t>(v.begin() + row * rows.T, v.begin() + (row + 1) * rows.T);
  };
  // Unshifted labels: the label of position t is that of t + 1.
  std::vector<int64_t> shifted;
  if (!rows.labels.empty()) {
    shifted = part(rows.labels);
    shifted.erase(shifted.begin());
    shifted.push_back(Batch::kIgnore);
  }
  return make_batch(1, rows.T, part(rows.ids), part(rows.documents), shifted);
}

struct Output {
  std::vector<NamedTensor> tensors;
  std::vector<std::vector<float>> data;
  float* add(const std::string& name, std::vector<int64_t> shape) {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    data.emplace_back(static_cast<size_t>(n));
    tensors.push_back({name, "F32", std::move(shape), data.back().data(), n * 4});
    return data.back().data();
  }
};

// What one row gives: its logits, then the residual stream after each layer. Rank 0 has them of all
// rows (they are what it writes), the others of one row at a time.
struct RowOutputs {
  struct Kind {
    float* data;
    int64_t width;  // [B, T, width]
  };
  std::vector<Kind> kinds;
  std::vector<std::vector<float>> own;
  int64_t rows = 0;  // that `data` holds

  float* at(const Kind& kind, int64_t row, int64_t T) const {
    return kind.data + (rows == 1 ? 0 : row) * T * kind.width;
  }
};

RowOutputs make_outputs(const Rows& rows, const ModelConfig& model, bool hidden, bool writes,
                        Output& out) {
  RowOutputs outputs{.rows = writes ? rows.B : 1};
  const auto add = [&](const std::string& name, int64_t width) {
    if (writes) {
      outputs.kinds.push_back({out.add(name, {rows.B, rows.T, width}), width});
    } else {
      outputs.own.emplace_back(static_cast<size_t>(rows.T * width));
      outputs.kinds.push_back({outputs.own.back().data(), width});
    }
  };
  add("logits", model.vocab_size);
  for (int64_t l = 0; hidden && l <= model.num_hidden_layers; ++l)
    add(fmt::format("hidden.{}", l), model.hidden_size);
  return outputs;
}

// Of the pass that c has just run.
void read_outputs(Engine& engine, Ctx& c, const Extent& extent, const RowOutputs& outputs,
                  int64_t row) {
  Transfer& transfer = engine.memory().transfer();
  const int64_t vocab = outputs.kinds[0].width;
  float* const to = outputs.at(outputs.kinds[0], row, extent.length);
  engine.model().each_logits(c, 0, extent, [&](int64_t begin, int64_t, const Tensor& some) {
    transfer.download(some.columns(0, vocab), to + begin * vocab);
  });
  for (size_t l = 0; l + 1 < outputs.kinds.size(); ++l)
    transfer.download(engine.model().hidden(0, static_cast<int64_t>(l), extent),
                      outputs.at(outputs.kinds[l + 1], row, extent.length));
}

// Rows [first, first + ranks) go to rank 0, which has its own already.
void gather_rows(Group& group, const RowOutputs& outputs, const Rows& rows, int64_t first) {
  for (int r = 1; r < group.size() && first + r < rows.B; ++r)
    for (size_t k = 0; k < outputs.kinds.size(); ++k) {
      const auto& kind = outputs.kinds[k];
      const Tensor data(outputs.at(kind, first + r, rows.T), Dtype::F32, {rows.T, kind.width});
      if (group.rank() == 0) group.receive(data, r, static_cast<int>(k)).wait();
      else if (group.rank() == r) group.send(data, 0, static_cast<int>(k)).wait();
    }
}

// Whole tensors by their Hugging Face names, put together from their pieces.
void add_gradients(Engine& engine, Output& out) {
  std::map<std::string, float*> made;
  engine.store().for_pieces([&](Param& p, Piece& piece) {
    float*& to = made[piece.name];
    if (!to) to = out.add("grad." + piece.name, piece.shape);
    int64_t width = 1;
    for (size_t i = 1; i < piece.shape.size(); ++i) width *= piece.shape[i];
    engine.memory().transfer().download(box(p.grad, piece),
                                        to + piece.tensor_row * width + piece.tensor_col, width);
  });
}

// Found before the work: a folder that is not there, or outputs beyond the machine's memory.
void check_results(const ProbeOptions& o, const Rows& rows, const ModelConfig& m, int64_t memory) {
  const fs::path folder = fs::absolute(o.out).parent_path();
  FT_CHECK_CONFIG(fs::is_directory(folder), "--out {}: there is no folder {}", o.out,
                  folder.string());
  check_output("--out", o.out, {o.model, o.tokens});
  const double kinds =
      static_cast<double>(m.vocab_size) +
      (o.hidden ? static_cast<double>(m.hidden_size * (m.num_hidden_layers + 1)) : 0.0);
  const double bytes = 4.0 * static_cast<double>(rows.B * rows.T) * kinds;
  FT_CHECK_CONFIG(bytes < 0.9 * static_cast<double>(memory),
                  "the outputs of {} x {} tokens take {:.1f} GiB, this machine has {:.1f}; probe "
                  "fewer rows at once{}",
                  rows.B, rows.T, bytes / kGiB, static_cast<double>(memory) / kGiB,
                  o.hidden ? ", or leave --hidden out" : "");
}

int probe(World& world, const ProbeOptions& options) {
  const ModelSource source = open_model(options.model);
  const Config config = probe_config(source.model, options.sets);
  world.set_timeout(config.run.timeout);
  const Mesh mesh =
      Mesh::build(world, config.parallel.tensor, config.parallel.pipeline, config.parallel.context);
  Group& data = *mesh.data;
  const Rows rows = read_rows(options.tokens, config.model.vocab_size);
  const auto device = open_device(config.run, world);
  check_results(options, rows, config.model, device->memory_total());
  Engine engine(*device, {.model = config.model,
                          .precision = precision_of(config.train),
                          .plan = {.largest = {1, rows.T},
                                   .recompute = recompute_of(config.train.recompute),
                                   .positions = rows.T,
                                   .z_loss = static_cast<float>(config.train.z_loss),
                                   .training = options.gradients}});
  load_weights(engine, source);
  agree(world.all(),
        {config_fact(config), text_fact("tokens", rows.digest()), weights_fact(engine)});

  std::vector<Batch> batches;
  for (int64_t row = data.rank(); row < rows.B; row += data.size())
    batches.push_back(one_row(rows, row));
  int64_t valid = 0;
  for (const Batch& batch : batches) valid += batch.valid;
  valid = all_sum(data, valid);
  engine.set_inv_count(static_cast<double>(valid));

  Output out;
  const RowOutputs outputs =
      make_outputs(rows, config.model, options.hidden, data.rank() == 0, out);
  Ctx c = engine.context();
  for (int64_t first = 0; first < rows.B; first += data.size()) {
    const int64_t row = first + data.rank();
    if (row < rows.B) {
      const Extent extent = engine.feed(0, batches[static_cast<size_t>(first / data.size())]);
      engine.model().forward(c, 0, extent);
      read_outputs(engine, c, extent, outputs, row);
      c.grad = first == 0 ? Grad::Overwrite : Grad::Accumulate;
      if (options.gradients) engine.model().backward(c, 0, extent);
      else engine.model().loss(c, 0, extent, c.grad);
    }
    gather_rows(data, outputs, rows, first);
  }
  const double sum = all_sum(data, batches.empty() ? 0.0 : engine.read(engine.model().loss_sum()));
  const double loss = valid > 0 ? sum / static_cast<double>(valid) : 0.0;
  *out.add("loss", {1}) = static_cast<float>(loss);
  if (options.gradients) {
    Ctx c = engine.context();
    engine.store().reduce_gradients(c, data);
    if (data.rank() == 0) add_gradients(engine, out);
  }
  if (world.all().rank() == 0) {
    write_safetensors(options.out, out.tensors);
    log_info("loss {:.6f} over {} labels; {} tensors written to {}", unsigned_nan(loss), valid,
             out.tensors.size(), options.out);
  }
  return 0;
}

}  // namespace

void add_probe(CLI::App& app, Run& run) {
  const auto o = std::make_shared<ProbeOptions>();
  auto* c = app.add_subcommand("probe", "Logits, loss and gradients of a model on given tokens");
  c->footer(
      "Example: mpirun -n 2 falcon-train probe HF_DIR --tokens tokens.safetensors --out "
      "out.safetensors --gradients");
  c->add_option("MODEL", o->model, "Hugging Face folder, checkpoint or run")->required();
  c->add_option("--tokens", o->tokens,
                "Safetensors file: input_ids [B, T], optional labels, document_ids")
      ->required();
  c->add_option("--out", o->out, "Safetensors file to write")->required()->check(file_name());
  c->add_flag("--gradients", o->gradients, "Also every parameter's gradient");
  c->add_flag("--hidden", o->hidden, "Also the residual stream after each layer");
  add_sets(c, o->sets, "train.precision=bf16");
  c->callback([o, &run] { run = [o](World& world) { return probe(world, *o); }; });
}

}  // namespace ft
