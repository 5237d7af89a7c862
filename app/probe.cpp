// probe: one forward (and backward) of a model on given tokens, to compare with another
// implementation.
#include "app/commands.h"
#include "app/engine.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "parallel/mesh.h"

#include <algorithm>
#include <cstring>

namespace ft {

namespace {

struct Rows {
  int64_t B = 0, T = 0;
  std::vector<int64_t> ids, labels, documents;
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

void sum_over_ranks(Group& group, float* data, int64_t n) {
  if (group.size() > 1) group.all_reduce(Tensor(data, Dtype::F32, {n}), Reduce::Sum).wait();
}

}  // namespace

int probe(World& world, const ProbeOptions& options) {
  const ModelSource source = open_model(options.model);
  const Config config = probe_config(source.model, options.sets);
  const Mesh mesh =
      Mesh::build(world, config.parallel.tensor, config.parallel.pipeline, config.parallel.context);
  Group& data = *mesh.data;
  const Rows rows = read_rows(options.tokens, config.model.vocab_size);
  const int64_t V = config.model.vocab_size, d = config.model.hidden_size,
                L = config.model.num_hidden_layers;

  const auto device = open_device(config.run, world.local_rank());
  Engine engine(*device, {.model = config.model,
                          .precision = precision_of(config.train),
                          .plan = {.largest = {1, rows.T},
                                   .recompute = recompute_of(config.train.recompute),
                                   .positions = rows.T,
                                   .z_loss = static_cast<float>(config.train.z_loss),
                                   .training = true}});
  load_weights(engine, source);

  std::vector<Batch> batches;
  for (int64_t row = data.rank(); row < rows.B; row += data.size())
    batches.push_back(one_row(rows, row));
  int64_t valid = 0;
  for (const Batch& batch : batches) valid += batch.valid;
  valid = all_sum(data, valid);
  engine.set_inv_count(static_cast<double>(valid));

  Output out;
  float* logits = out.add("logits", {rows.B, rows.T, V});
  std::vector<float*> hidden;
  for (int64_t l = 0; options.hidden && l <= L; ++l)
    hidden.push_back(out.add(fmt::format("hidden.{}", l), {rows.B, rows.T, d}));
  Ctx c = engine.context();
  double loss = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const int64_t row = data.rank() + static_cast<int64_t>(i) * data.size();
    const Extent extent = engine.feed(0, batches[i]);
    engine.model().forward(c, 0, extent);
    engine.model().logits(c, 0, extent, Tensor(logits + row * rows.T * V, Dtype::F32, {rows.T, V}));
    for (size_t l = 0; l < hidden.size(); ++l)
      c(ops::Copy{.y = Tensor(hidden[l] + row * rows.T * d, Dtype::F32, {rows.T, d}),
                  .x = engine.model().hidden(0, static_cast<int64_t>(l), extent)});
    c.grad = i == 0 ? Grad::Overwrite : Grad::Accumulate;
    if (options.gradients) engine.model().backward(c, 0, extent);
    else engine.model().loss(c, 0, extent, c.grad);
  }
  if (!batches.empty()) loss = engine.read(engine.model().loss_sum());
  *out.add("loss", {1}) =
      valid > 0 ? static_cast<float>(all_sum(data, loss) / static_cast<double>(valid)) : 0.0f;
  for (size_t t = 0; t < out.data.size(); ++t)
    if (out.tensors[t].name != "loss")
      sum_over_ranks(data, out.data[t].data(), static_cast<int64_t>(out.data[t].size()));
  if (options.gradients) {
    engine.store().reduce_gradients(data);
    std::map<std::string, float*> made;
    engine.store().for_pieces([&](Param& p, Piece& piece) {
      float*& to = made[piece.name];
      if (!to) to = out.add("grad." + piece.name, piece.shape);
      int64_t width = 1;
      for (size_t i = 1; i < piece.shape.size(); ++i) width *= piece.shape[i];
      const Tensor from = box(p.grad, piece);
      for (int64_t r = 0; r < piece.rows; ++r)
        device->copy(to + (piece.tensor_row + r) * width + piece.tensor_col,
                     from.f32() + r * from.stride[0], static_cast<size_t>(piece.cols) * 4, {});
    });
    device->synchronize({});
  }
  if (world.all().rank() == 0) {
    write_safetensors(options.out, out.tensors);
    log_info("loss {:.6f} over {} labels; {} tensors written to {}",
             *out.data[1 + hidden.size()].data(), valid, out.tensors.size(), options.out);
  }
  return 0;
}

}  // namespace ft
