#include "data/loader.h"

#include "core/check.h"
#include "core/heartbeat.h"
#include "data/mix.h"
#include "data/names.h"
#include "data/order.h"
#include "data/position.h"
#include "data/rows.h"
#include "data/tokens.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <optional>
#include <thread>

namespace ft {

namespace {

struct Source {
  DataSource config;
  TokenSet set;
  SourceOrder order;
  std::string identity;
  Source(const DataSource& c, Access access, uint64_t seed)
      : config(c), set(c.path, access), order(set, c.name, seed), identity(set.identity()) {
    FT_CHECK_CONFIG(set.documents() > 0 && set.tokens() > 0,
                    "{}: the set has no tokens; leave the source out", c.path);
  }
};

struct Sample {
  size_t source;
  std::vector<Span> spans;
};

// Opens all sources. Each is a handful of small reads at random places, slow one after another on a
// parallel file system: several at a time. The first source that fails in the order given speaks.
std::vector<std::unique_ptr<Source>> open_sources(const DataConfig& config, uint64_t seed) {
  constexpr size_t kAtATime = 16;
  const Access access = access_of(config.read);
  std::vector<std::unique_ptr<Source>> sources(config.train.size());
  std::vector<std::exception_ptr> failed(sources.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t s = next++; s < sources.size(); s = next++) {
      try {
        const StorageCall call("opening", config.train[s].path);
        sources[s] = std::make_unique<Source>(config.train[s], access, seed);
      } catch (...) {
        failed[s] = std::current_exception();
      }
    }
  };
  std::vector<std::future<void>> workers;
  for (size_t w = 1; w < std::min(kAtATime, sources.size()); ++w)
    workers.push_back(std::async(std::launch::async, work));
  work();
  for (auto& worker : workers) worker.get();
  for (const auto& failure : failed)
    if (failure) std::rethrow_exception(failure);
  return sources;
}

// A step, and where the stream stands after it.
struct Prepared {
  StepBatches step;
  Position after;
};

}  // namespace

struct Loader::Impl {
  DataConfig config;
  int64_t vocab;
  int dp_rank, dp_size;
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<std::string> names;  // of the sources
  BlendRecord present;             // the configured blend
  Position position;               // before the step under preparation

  // The step under preparation. Works on a copy of the position, so state() does not depend on it.
  struct Ahead {
    int64_t global_batch, micro_batch;
    std::future<Prepared> prepared;  // does not wait when it goes
  };
  std::optional<Ahead> ahead;

  StepBatches read(const std::vector<Sample>& mine, int64_t micro_batch) const {
    StepBatches step;
    for (const Sample& sample : mine)
      for (const Span& span : sample.spans)
        sources[sample.source]->set.expect(span.document, span.begin, span.count);
    for (size_t i = 0; i < mine.size(); i += static_cast<size_t>(micro_batch)) {
      const size_t n = std::min(mine.size() - i, static_cast<size_t>(micro_batch));
      Batch batch = padding_batch(static_cast<int64_t>(n), config.sequence_length);
      for (size_t r = 0; r < n; ++r) {
        const Sample& sample = mine[i + r];
        batch.sources[r] = static_cast<int32_t>(sample.source);
        fill_row(sources[sample.source]->set, sample.spans, config.isolate_documents, vocab,
                 static_cast<int64_t>(r), batch);
      }
      step.micro.push_back(std::move(batch));
    }
    return step;
  }

  Prepared prepare(Position p, int64_t global_batch, int64_t micro_batch) const {
    Blend blend;
    for (const std::string& name : names) {
      blend.weights.push_back(present.weights.at(name));
      blend.taken.push_back(p.taken.at(name));
      blend.samples += blend.taken.back();
    }
    const std::vector<int64_t> taken_before = blend.taken;
    std::vector<Sample> mine;
    for (int64_t i = 0; i < global_batch; ++i) {
      const auto s = static_cast<size_t>(blend.next());
      const StorageCall call("reading", sources[s]->set.prefix());
      auto spans = sources[s]->order.take(p.sources.at(names[s]).cursor, config.sequence_length);
      if (i % dp_size == dp_rank) mine.push_back({s, std::move(spans)});
    }
    p.samples += global_batch;
    StepBatches step = read(mine, micro_batch);
    step.tokens = global_batch * config.sequence_length;
    for (size_t s = 0; s < sources.size(); ++s) {
      const std::string& name = names[s];
      p.taken[name] = blend.taken[s];
      if (blend.taken[s] == taken_before[s]) continue;
      step.per_source[name] = (blend.taken[s] - taken_before[s]) * config.sequence_length;
      step.epochs[name] = sources[s]->order.epochs(p.sources.at(name).cursor);
    }
    return {std::move(step), std::move(p)};
  }

  // The thread keeps what it reads from alive, so that nobody has to wait for it.
  static void start(const std::shared_ptr<Impl>& impl, int64_t global_batch, int64_t micro_batch) {
    std::packaged_task<Prepared()> task([=, p = impl->position]() mutable {
      return impl->prepare(std::move(p), global_batch, micro_batch);
    });
    impl->ahead.emplace(Ahead{global_batch, micro_batch, task.get_future()});
    std::thread(std::move(task)).detach();
  }

  void drop_ahead() {
    if (!ahead) return;
    if (std::uncaught_exceptions() == 0) ahead->prepared.wait();
    else ahead->prepared.wait_for(std::chrono::seconds(1));
    ahead.reset();
  }
};

Loader::Loader(const DataConfig& config, int64_t vocab_size, uint64_t seed, int dp_rank,
               int dp_size)
    : impl_(std::make_shared<Impl>()) {
  Impl& i = *impl_;
  i.config = config;
  i.vocab = vocab_size;
  i.dp_rank = dp_rank, i.dp_size = dp_size;
  i.position.seed = seed;
  FT_CHECK_CONFIG(config.sequence_length > 0, "data.sequence_length is {}: expected 1 or more",
                  config.sequence_length);
  FT_CHECK_CONFIG(!config.train.empty(), "data.train is empty: nothing to train on");
  std::vector<double> weights;
  for (DataSource& source : i.config.train) {
    if (source.name.empty()) source.name = source.path;
    check_name("data.train", source.name);  // the position is JSON, which is UTF-8
    FT_CHECK_CONFIG(i.position.sources.try_emplace(source.name).second,
                    "data.train: two sources are named '{}'; give one another name", source.name);
    i.names.push_back(source.name);
    weights.push_back(source.weight);
  }
  const Blend blend = make_blend(weights);
  i.present.sequence_length = config.sequence_length;
  i.sources = open_sources(i.config, seed);
  for (size_t s = 0; s < i.sources.size(); ++s) {
    i.position.sources[i.names[s]] = {{}, i.sources[s]->identity, i.names[s]};
    i.present.weights[i.names[s]] = blend.weights[s];
  }
  enter_blend(i.position, i.present);
}

Loader::~Loader() { impl_->drop_ahead(); }

StepBatches Loader::next(int64_t global_batch, int64_t micro_batch) {
  Impl& i = *impl_;
  FT_CHECK_CONFIG(global_batch > 0 && micro_batch > 0 && global_batch % i.dp_size == 0,
                  "a batch of {} sequences in micro-batches of {} cannot be dealt out to {} "
                  "data-parallel ranks; "
                  "train.global_batch must be a multiple of them",
                  global_batch, micro_batch, i.dp_size);
  if (i.ahead && (i.ahead->global_batch != global_batch || i.ahead->micro_batch != micro_batch))
    i.drop_ahead();
  if (!i.ahead) Impl::start(impl_, global_batch, micro_batch);
  auto future = std::move(i.ahead->prepared);
  i.ahead.reset();
  Prepared prepared = future.get();  // rethrows; the position is then still that before the step
  i.position = std::move(prepared.after);
  Impl::start(impl_, global_batch, micro_batch);
  return std::move(prepared.step);
}

DataState Loader::state() const { return position_text(impl_->position); }

SourceChanges Loader::restore(const DataState& state) {
  Impl& i = *impl_;
  Position p = parse_position(state);
  FT_CHECK_CONFIG(p.seed == i.position.seed,
                  "run.seed is {}, but the run's data were put in order with {}: going on would "
                  "repeat tokens; set it back",
                  i.position.seed, p.seed);
  std::vector<PresentSource> present;
  for (const auto& s : i.sources)
    present.push_back({s->config.name, s->config.path, s->identity,
                       [set = &s->set] { return set->sparse_identity(); }});
  SourceChanges changes = match_sources(p, present);
  for (const auto& s : i.sources) {
    SourcePosition& source = p.sources.at(s->config.name);
    FT_CHECK_CONFIG(source.cursor.document < s->set.documents(),
                    "the checkpoint's data state is damaged: source '{}' has no document {}",
                    s->config.name, source.cursor.document);
    if (source.cursor.tokens < 0) source.cursor.tokens = s->order.tokens_before(source.cursor);
  }
  enter_blend(p, i.present);
  for (const auto& s : i.sources) p.taken.try_emplace(s->config.name, 0);
  i.drop_ahead();
  for (const auto& s : i.sources)
    s->order = SourceOrder(s->set, p.sources.at(s->config.name).key, p.seed);
  i.position = std::move(p);
  return changes;
}

const std::vector<std::string>& Loader::source_names() const { return impl_->names; }

std::string Loader::description() const {
  constexpr size_t kShown = 20;
  const Impl& i = *impl_;
  std::string text = "data:";
  int64_t documents = 0, tokens = 0;
  for (size_t s = 0; s < i.sources.size(); ++s) {
    const Source& source = *i.sources[s];
    documents += source.set.documents(), tokens += source.set.tokens();
    if (s >= kShown) continue;
    text += fmt::format("\n  {}: {} documents, {} tokens ({}{}), weight {:.3f}, at epoch {:.3f}",
                        i.names[s], source.set.documents(), source.set.tokens(),
                        source.set.dtype_name(), source.set.has_mask() ? ", masked" : "",
                        i.present.weights.at(i.names[s]),
                        source.order.epochs(i.position.sources.at(i.names[s]).cursor));
  }
  if (i.sources.size() > kShown)
    text += fmt::format("\n  and {} more; all {} sources: {} documents, {} tokens",
                        i.sources.size() - kShown, i.sources.size(), documents, tokens);
  return text;
}

}  // namespace ft
