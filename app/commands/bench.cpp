#include "app/commands/bench.h"
#include "app/commands/command.h"
#include "app/commands/command_line.h"

#include "app/commands/numbers.h"
#include "app/commands/outputs.h"
#include "app/config/config_check.h"
#include "app/machine/ceilings.h"
#include "app/train/fit.h"
#include "app/train/trainer.h"
#include "core/observe.h"
#include "core/rng.h"
#include "parallel/initialise.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kLeastRepeats = 5;
constexpr const char* kDefaults[] = {"falcon-h1-tiny-90m.yaml", "quickstart.yaml"};

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}
double best(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
double median(std::vector<double> v) {
  const auto middle = v.begin() + static_cast<int64_t>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return *middle;
}

// An op of one shape: every call's time.
struct Measured {
  std::string op, shape;
  double flops = 0, bytes = 0;
  std::vector<double> seconds;
  double floor(const Ceiling& c) const { return std::max(flops / c.flops, bytes / c.copy_bytes); }
};

class Recorder : public Observer {
 public:
  explicit Recorder(Device& device) : device_(device) {}
  void before(const std::string&, const char*) override {
    device_.synchronize();
    begin_ = Clock::now();
  }
  void after(const std::string&, const char* op, const std::vector<Seen>& outputs, double flops,
             double bytes) override {
    device_.synchronize();
    const double seconds = since(begin_);
    Measured& m = ops_[fmt::format("{} {} {}", op, shape_of(op, outputs, flops, bytes), bytes)];
    if (m.seconds.empty()) m = {op, shape_of(op, outputs, flops, bytes), flops, bytes, {}};
    m.seconds.push_back(seconds);
  }
  void clear() { ops_.clear(); }
  std::vector<Measured> of(const std::string& filter) const {
    std::vector<Measured> all;
    for (const auto& [key, m] : ops_)
      if (key.find(filter) != std::string::npos) all.push_back(m);
    return all;
  }

 private:
  // A product by M x N x K, a sum to one number by what it reads, others by their first output.
  static std::string shape_of(const std::string& op, const std::vector<Seen>& outputs, double flops,
                              double bytes) {
    const Tensor& y = outputs.front().tensor;
    if (y.size() == 1) return fmt::format("1 of {:.0f} B", bytes);
    std::string text;
    for (int d = 0; d < y.dims; ++d) text += fmt::format("{}{}", d ? "x" : "", y.shape[d]);
    if (op == "gemm") text += fmt::format("x{:.0f}", flops / 2 / static_cast<double>(y.size()));
    return text;
  }
  Device& device_;
  Clock::time_point begin_;
  std::map<std::string, Measured> ops_;
};

// A model of random weights that takes the same optimizer step again and again.
class Bench {
 public:
  // documents: tokens of each; 0: one a sequence.
  Bench(const Config& config, Device& device, int64_t documents)
      : device_(device), engine_(device, engine_options(config, false)) {
    const int64_t B = config.train.micro_batch, T = config.data.sequence_length;
    initialise(engine_.store(), config.run.seed, default_threads());
    engine_.refresh_weights();
    std::vector<int64_t> ids, of_document;
    for (int64_t t = 0; documents > 0 && t < B * T; ++t) of_document.push_back(t / documents);
    for (int64_t t = 0; t < B * T; ++t)
      ids.push_back(
          static_cast<int64_t>(random_words(1, Purpose::Test, 0, static_cast<uint64_t>(t))[0] %
                               static_cast<uint32_t>(config.model.vocab_size)));
    const Batch batch = make_batch(B, T, ids, of_document, {});
    extent_ = engine_.feed(0, batch);
    engine_.set_inv_count(static_cast<double>(std::max<int64_t>(batch.valid, 1)));
  }
  void step(Observer* observer) {
    engine_.optimizer().begin({.lr = 1e-5, .labels = extent_.tokens()});
    Ctx c = engine_.context();
    c.observer = observer;
    engine_.model().forward(c, 0, extent_);
    engine_.model().backward(c, 0, extent_);
    engine_.optimizer().gradient_norm(c);
    engine_.optimizer().verdict(c, engine_.model().loss_sum(), 1);
    engine_.optimizer().step(c, {});
    device_.synchronize();
  }
  // Times of whole steps over about `seconds`, after one that warms up.
  std::vector<double> steps(double seconds, Observer* observer, Recorder* recorder) {
    step(observer);
    if (recorder) recorder->clear();
    std::vector<double> times;
    double total = 0;
    while (times.size() < kLeastRepeats || total < seconds) {
      const auto begin = Clock::now();
      step(observer);
      times.push_back(since(begin)), total += times.back();
    }
    return times;
  }
  double model_flops() { return 3 * engine_.count(false).model_flops; }

 private:
  Device& device_;
  Engine engine_;
  Extent extent_;
};

std::string find_default(const std::string& name) {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& folder : {fs::path("configs"), program / "../../configs"})
    if (fs::exists(folder / name)) return (folder / name).lexically_normal().string();
  throw ConfigError(fmt::format(
      "bench: configs/{} is neither here nor beside the build: name a configuration", name));
}

// One block of each kind: more of them are the same ops once more.
void keep_one_of_each(ModelConfig& model) {
  const std::string all = expand_pattern(model.layer_pattern, model.num_hidden_layers);
  const std::set<char> kinds(all.begin(), all.end());
  model.layer_pattern.assign(kinds.begin(), kinds.end());
  model.num_hidden_layers = static_cast<int64_t>(kinds.size());
}

Config config_of(const BenchOptions& o, const std::string& path) {
  std::vector<std::string> sets = o.sets;
  sets.push_back("train.precision=" + o.precision);
  sets.push_back("train.residual=" + o.precision);
  Config config = load_config(path, sets);
  config.data.sequence_length = o.tokens;
  config.train.micro_batch = o.sequences;
  check_values(config);
  if (!o.step) keep_one_of_each(config.model);
  const Ranks ranks = planned_ranks(config.run, 1);
  return resolve(config, ranks.memory, ranks);  // recompute: auto asks what this shape needs
}

// How near to its floor an op of so many FLOPs and bytes came. The copy ceiling is that of memory:
// an op that is faster found its bytes in a cache, and a percentage of that floor says nothing.
std::string of_floor(double flops, double bytes, double seconds, const Ceiling& c) {
  if (bytes / c.copy_bytes > seconds) return "in cache";
  return fmt::format("{:.0f}%", 100 * std::max(flops / c.flops, bytes / c.copy_bytes) / seconds);
}

constexpr const char* kLegend =
    "of floor: the larger of FLOPs over the matrix-product ceiling and bytes over the copy ceiling, "
    "as a share of the time taken;\nin cache: faster than memory, since the op's bytes were in a "
    "cache\nabove 100%: faster than the ceiling was measured; other work had the cores, or --seconds "
    "is short\n";

std::string on_what(const Ceiling& c) {
  if (c.threads == 0) return "GPU";
  return fmt::format("{} thread{}", c.threads, c.threads == 1 ? "" : "s");
}

std::string ceilings_text(const std::vector<Ceiling>& all, const std::string& precision) {
  std::string text = fmt::format("{:>10}{:>17}{:>12}\n", "", precision + " GFLOP/s", "copy GB/s");
  for (const Ceiling& c : all)
    text +=
        fmt::format("{:>10}{:>17.1f}{:>12.1f}\n", on_what(c), c.flops * 1e-9, c.copy_bytes * 1e-9);
  return text;
}

std::string ops_text(const std::vector<Measured>& ops, const Ceiling& ceiling) {
  std::string text =
      fmt::format("{:<18}{:<20}{:>7}{:>11}{:>11}{:>11}{:>10}{:>8}{:>10}\n", "op", "shape", "calls",
                  "best ms", "median ms", "floor ms", "GFLOP/s", "GB/s", "of floor");
  for (const Measured& m : ops) {
    const double s = best(m.seconds);
    text += fmt::format("{:<18}{:<20}{:>7}{:>11.4f}{:>11.4f}{:>11.4f}{:>10.1f}{:>8.1f}{:>10}\n",
                        m.op, m.shape, m.seconds.size(), s * 1e3, median(m.seconds) * 1e3,
                        m.floor(ceiling) * 1e3, m.flops / s * 1e-9, m.bytes / s * 1e-9,
                        of_floor(m.flops, m.bytes, s, ceiling));
  }
  return text + kLegend;
}

json ops_json(const std::vector<Measured>& ops, const Ceiling& ceiling) {
  json list = json::array();
  for (const Measured& m : ops)
    list.push_back({{"op", m.op},
                    {"shape", m.shape},
                    {"calls", m.seconds.size()},
                    {"best_seconds", best(m.seconds)},
                    {"median_seconds", median(m.seconds)},
                    {"floor_seconds", m.floor(ceiling)},
                    {"in_cache", m.bytes / ceiling.copy_bytes > best(m.seconds)},
                    {"flops", m.flops},
                    {"bytes", m.bytes}});
  return list;
}

// Where a step's time goes, the largest part first.
std::string profile_text(const Profile& profile, const Ceiling& ceiling) {
  std::vector<std::pair<std::string, Profile::Row>> rows(profile.rows().begin(),
                                                         profile.rows().end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double total = 0;
  for (const auto& row : rows) total += row.second.seconds;
  std::string text = fmt::format("{:<18}{:>7}{:>10}{:>8}{:>10}{:>8}{:>10}\n", "op", "calls", "ms",
                                 "share", "GFLOP/s", "GB/s", "of floor");
  for (const auto& [op, r] : rows) {
    text += fmt::format("{:<18}{:>7}{:>10.3f}{:>7.1f}%{:>10.1f}{:>8.1f}{:>10}\n", op, r.calls,
                        r.seconds * 1e3, 100 * r.seconds / total, r.flops / r.seconds * 1e-9,
                        r.bytes / r.seconds * 1e-9, of_floor(r.flops, r.bytes, r.seconds, ceiling));
  }
  return text + kLegend;
}

// Measures one configuration; its numbers, and in `text` its table.
json measure(const BenchOptions& o, const std::string& path, const Ceiling& ceiling, Device& device,
             std::string& text) {
  const Config config = config_of(o, path);
  Bench bench(config, device, o.documents);
  json result = {{"config", path}};
  text = fmt::format(
      "\n{}: {} x {} tokens, {}, {}, {}\n", path, o.sequences, o.tokens,
      o.documents > 0 ? fmt::format("documents of {}", o.documents) : "one document a sequence",
      o.precision, on_what(ceiling));
  if (!o.step) {
    Recorder recorder(device);
    bench.steps(o.seconds, &recorder, &recorder);
    const auto ops = recorder.of(o.filter);
    FT_CHECK_CONFIG(!ops.empty(), "--filter {}: no op's name or shape holds this text", o.filter);
    text += ops_text(ops, ceiling);
    result["ops"] = ops_json(ops, ceiling);
    return result;
  }
  const auto times = bench.steps(o.seconds, nullptr, nullptr);
  const double tokens = static_cast<double>(o.sequences * o.tokens), flops = bench.model_flops();
  Profile profile(device);
  bench.step(&profile);
  const double mfu = flops / best(times) / ceiling.flops;
  text += fmt::format(
      "step: best {:.4f} s, median {:.4f} s of {}; {:.1f} tok/s; {:.1f} GFLOP/s of the model\n"
      "MFU {:.1f}% of the matrix-product ceiling (model FLOPs = 3 x forward, causal attention "
      "counted once)\n",
      best(times), median(times), times.size(), tokens / best(times), flops / best(times) * 1e-9,
      100 * mfu);
  text += profile_text(profile, ceiling);
  result["step"] = {{"best_seconds", best(times)}, {"median_seconds", median(times)},
                    {"repeats", times.size()},     {"tokens_per_second", tokens / best(times)},
                    {"model_flops", flops},        {"mfu", mfu}};
  for (const auto& [op, r] : profile.rows())
    result["profile"][op] = {
        {"calls", r.calls}, {"seconds", r.seconds}, {"flops", r.flops}, {"bytes", r.bytes}};
  return result;
}

}  // namespace

int bench(const BenchOptions& o) {
  std::vector<std::string> paths = o.configs;
  if (paths.empty())
    for (const char* name : kDefaults) paths.push_back(find_default(name));
  RunConfig run;
  for (const std::string& path : paths) run = config_of(o, path).run;  // what is wrong shows first
  if (!o.json.empty()) check_output("--json", o.json, paths);
  const bool quiet = o.json == "-";
  const int threads = o.threads > 0 ? o.threads : default_threads();
  run.threads = threads;
  const auto device = open_device(run);
  const Dtype dtype = o.precision == "bf16" ? Dtype::BF16 : Dtype::F32;
  const double seconds = std::min(o.seconds / 4, 1.0);
  const auto ceilings = device->kind() == DeviceKind::Cuda
                            ? std::vector{measure_gpu(*device, dtype, seconds)}
                            : measure_ceilings(threads, dtype, seconds);
  json all = {{"machine", device->description()}, {"precision", o.precision}, {"threads", threads},
              {"sequences", o.sequences},         {"documents", o.documents}, {"tokens", o.tokens}};
  for (const Ceiling& c : ceilings)
    all["ceilings"].push_back(
        {{"threads", c.threads}, {"flops", c.flops}, {"copy_bytes", c.copy_bytes}});
  if (!quiet)
    fmt::print("{}\n{}", all["machine"].get<std::string>(), ceilings_text(ceilings, o.precision));
  for (const std::string& path : paths) {
    std::string text;
    all["configs"].push_back(measure(o, path, ceilings.back(), *device, text));
    if (!quiet) fmt::print("{}", text), std::fflush(stdout);
  }
  if (!o.json.empty()) write_json(o.json, all);
  return 0;
}

void add_bench(CLI::App& app, Run& run) {
  const auto o = std::make_shared<BenchOptions>();
  auto* c = app.add_subcommand(
      "bench", "Every op of a model, or whole steps, against what this machine can do");
  c->footer(
      "Examples:\n"
      "  falcon-train bench --filter gemm --tokens 2048\n"
      "  falcon-train bench configs/quickstart.yaml --step --threads 1 --json bench.json\n"
      "An op's floor is the larger of FLOPs over the matrix-product ceiling and bytes over the "
      "copy "
      "ceiling, both measured in the same run");
  c->add_option("CONFIG", o->configs,
                "YAML files whose models to measure. Default: Tiny-90M and the quickstart");
  c->add_option("--sequences", o->sequences, "Sequences of the micro-batch")
      ->transform(whole(1))
      ->capture_default_str();
  c->add_option("--documents", o->documents,
                "Tokens of each document that the sequences are packed from; 0: one a sequence")
      ->transform(whole(0))
      ->capture_default_str();
  c->add_option("--tokens", o->tokens, "Tokens of a sequence")
      ->transform(whole(1))
      ->capture_default_str();
  c->add_flag("--step", o->step, "Whole optimizer steps: tokens/s, MFU and a profile by op");
  c->add_option("--filter", o->filter, "Only ops whose name or shape holds this text");
  c->add_option("--seconds", o->seconds, "Seconds of measuring, each configuration")
      ->transform(real(Range{0.01, 3600}))
      ->capture_default_str();
  c->add_option("--precision", o->precision, "fp32 or bf16")
      ->check(one_of({"fp32", "bf16"}))
      ->capture_default_str();
  c->add_option("--threads", o->threads, "Threads. Default: as training takes")
      ->transform(whole(1, 4096));
  c->add_option("--json", o->json, "Also write the numbers to a file; -: only them")
      ->type_name("FILE");
  add_sets(c, o->sets, "model.mamba_chunk_size=64");
  c->callback([o, &run] { run = alone([o] { return bench(*o); }); });
}

}  // namespace ft
