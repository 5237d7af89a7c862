// Scoring: many short requests share one row of tokens, each a document of its own, so nothing is
// padded and no request sees another.
#include "app/commands/evaluate.h"
#include "app/commands/outputs.h"
#include "app/text/model_text.h"
#include "app/train/engine.h"
#include "app/train/rank_facts.h"
#include "core/file.h"
#include "data/json_liberties.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <tuple>

namespace ft {

using nlohmann::json;

namespace {

struct Line {
  json id;                      // null: the line had none
  std::vector<int32_t> tokens;  // context and continuation
  int64_t continuation = 0;     // the last so many tokens are to be scored
  int64_t truncated = 0;        // tokens dropped from the left
  int64_t inputs() const { return static_cast<int64_t>(tokens.size()) - 1; }
};
struct Score {
  double logprob = 0;
  int64_t greedy = 0;
};

class Reader {
 public:
  Reader(const std::string& path, const ModelSource& source, const ModelText& text,
         int64_t max_length)
      : path_(path), source_(source), text_(text), max_length_(max_length) {}

  std::vector<Line> read() {
    std::ifstream file(path_);
    FT_CHECK_CONFIG(file, "{}: cannot be read", path_);
    std::vector<Line> requests;
    for (std::string text; std::getline(file, text);) {
      ++line_;
      if (text.find_first_not_of(" \t\r") != std::string::npos) requests.push_back(request(text));
    }
    FT_CHECK_CONFIG(!requests.empty(), "{}: holds no lines to score", path_);
    return requests;
  }

 private:
  Line request(const std::string& text) const {
    const json object = json::parse(strict_json(text), nullptr, false);
    FT_CHECK_CONFIG(object.is_object(), "{}:{}: expected a JSON object", path_, line_);
    Line r;
    if (object.contains("id")) r.id = object["id"];
    const auto before = text_at(object, "context"), after = text_at(object, "continuation");
    std::vector<int32_t> continuation;
    if (before && after) {
      std::tie(r.tokens, continuation) = pair(*before, *after);
    } else {
      r.tokens = before ? text_.tokenizer->encode_prompt(*before) : ids(object, "context_ids");
      continuation = after ? text_.tokenizer->encode(*after) : ids(object, "continuation_ids");
    }
    r.continuation = static_cast<int64_t>(continuation.size());
    FT_CHECK_CONFIG(r.continuation > 0,
                    "{}:{}: the continuation is empty, or goes into the last token of the context: "
                    "nothing to score",
                    path_, line_);
    FT_CHECK_CONFIG(r.continuation <= max_length_,
                    "{}:{}: a continuation of {} tokens does not fit into {}; raise --max-length",
                    path_, line_, r.continuation, max_length_);
    if (r.tokens.empty()) r.tokens.push_back(prefix());
    r.tokens.insert(r.tokens.end(), continuation.begin(), continuation.end());
    r.truncated = std::max<int64_t>(0, r.inputs() - max_length_);
    r.tokens.erase(r.tokens.begin(), r.tokens.begin() + r.truncated);
    return r;
  }

  // FIELD, where the line has it rather than FIELD_ids.
  std::optional<std::string> text_at(const json& object, const std::string& field) const {
    const auto text = object.find(field);
    FT_CHECK_CONFIG((text == object.end()) == object.contains(field + "_ids"),
                    "{}:{}: expected either \"{}\" or \"{}_ids\"", path_, line_, field, field);
    if (text == object.end()) return std::nullopt;
    FT_CHECK_CONFIG(text->is_string(), "{}:{}: \"{}\" must be text, not {}", path_, line_, field,
                    text->type_name());
    text_.require(fmt::format("{}:{}: text", path_, line_),
                  fmt::format("name it with --tokenizer, or give \"{}_ids\"", field));
    return text->get<std::string>();
  }

  std::vector<int32_t> ids(const json& object, const std::string& field) const {
    const auto fits = [&](const json& id) {
      return id.is_number_integer() && id.get<int64_t>() >= 0 &&
             id.get<int64_t>() < source_.model.vocab_size;
    };
    const json& list = object[field];
    FT_CHECK_CONFIG(list.is_array() && std::all_of(list.begin(), list.end(), fits),
                    "{}:{}: \"{}\" must be a list of whole numbers from 0 to below the "
                    "vocabulary of {}",
                    path_, line_, field, source_.model.vocab_size);
    return list.get<std::vector<int32_t>>();
  }

  // Context and continuation as evaluation harnesses encode them, see app/commands/evaluate.h.
  std::pair<std::vector<int32_t>, std::vector<int32_t>> pair(std::string context,
                                                             std::string continuation) const {
    const size_t spaces = trailing_space(context);
    continuation.insert(0, context, context.size() - spaces, spaces);
    context.resize(context.size() - spaces);
    std::vector<int32_t> before = text_.tokenizer->encode_prompt(context),
                         after = text_.tokenizer->encode_prompt(context + continuation);
    after.erase(after.begin(),
                after.begin() + static_cast<int64_t>(std::min(before.size(), after.size())));
    return {before, after};
  }

  // What stands before a text without context.
  int32_t prefix() const {
    FT_CHECK_CONFIG(text_.start,
                    "{}:{}: the context is empty, and the model's configuration has no "
                    "bos_token_id to stand before the continuation; give one token of context",
                    path_, line_);
    return *text_.start;
  }

  std::string path_;
  const ModelSource& source_;
  const ModelText& text_;
  int64_t max_length_, line_ = 0;
};

// Runs of requests [begin, end) that share a row of at most `capacity` tokens, in order.
std::vector<std::pair<size_t, size_t>> rows_of(const std::vector<Line>& requests,
                                               int64_t capacity) {
  std::vector<std::pair<size_t, size_t>> rows;
  int64_t used = capacity;
  for (size_t i = 0; i < requests.size(); ++i) {
    const int64_t n = requests[i].inputs();
    if (used + n > capacity) rows.emplace_back(i, i), used = 0;
    rows.back().second = i + 1;
    used += n;
  }
  return rows;
}

Batch batch_of(const std::vector<Line>& requests, std::pair<size_t, size_t> row) {
  Batch batch{.sequences = 1};
  for (size_t i = row.first; i < row.second; ++i) {
    const auto& tokens = requests[i].tokens;
    const auto start = static_cast<int32_t>(batch.ids.size());
    batch.ids.insert(batch.ids.end(), tokens.begin(), tokens.end() - 1);
    batch.docs.resize(batch.ids.size(), start);
  }
  batch.length = static_cast<int64_t>(batch.ids.size());
  batch.labels.assign(batch.ids.size(), Batch::kIgnore);
  return batch;
}

// A label and whom it belongs to, for each token of a row; request -1: not scored.
struct Wanted {
  int64_t request = -1;
  int32_t label = 0;
};
std::vector<Wanted> wanted_of(const std::vector<Line>& requests, std::pair<size_t, size_t> row) {
  std::vector<Wanted> wanted;
  for (size_t i = row.first; i < row.second; ++i) {
    const Line& r = requests[i];
    const int64_t first = r.inputs() - r.continuation;
    for (int64_t t = 0; t < r.inputs(); ++t)
      wanted.push_back(
          {t >= first ? static_cast<int64_t>(i) : -1, r.tokens[static_cast<size_t>(t) + 1]});
  }
  return wanted;
}

void add_token(const float* logits, int64_t vocab, int32_t label, Score& score) {
  const int64_t best = std::max_element(logits, logits + vocab) - logits;
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v)
    sum += std::exp(static_cast<double>(logits[v]) - static_cast<double>(logits[best]));
  score.logprob +=
      static_cast<double>(logits[label]) - static_cast<double>(logits[best]) - std::log(sum);
  score.greedy &= static_cast<int64_t>(best == label);
}

void score_row(Engine& engine, const std::vector<Line>& requests, std::pair<size_t, size_t> row,
               std::vector<Score>& scores) {
  const int64_t vocab = engine.model().config().vocab_size;
  const std::vector<Wanted> wanted = wanted_of(requests, row);
  for (size_t i = row.first; i < row.second; ++i) scores[i].greedy = 1;
  Ctx c = engine.context();
  const Extent extent = engine.feed(0, batch_of(requests, row));
  engine.model().forward(c, 0, extent);
  std::vector<float> line(static_cast<size_t>(vocab));
  engine.model().each_logits(c, 0, extent, [&](int64_t begin, int64_t end, const Tensor& logits) {
    for (int64_t t = begin; t < end; ++t) {
      const Wanted& w = wanted[static_cast<size_t>(t)];
      if (w.request < 0) continue;
      engine.memory().transfer().download(
          logits.row_range(t - begin, t - begin + 1).columns(0, vocab), line.data());
      add_token(line.data(), vocab, w.label, scores[static_cast<size_t>(w.request)]);
    }
  });
}

std::string lines_of(const std::vector<Line>& requests, const std::vector<Score>& scores) {
  std::string text;
  for (size_t i = 0; i < requests.size(); ++i) {
    json line = json::object();
    if (!requests[i].id.is_null()) line["id"] = requests[i].id;
    line["logprob"] = std::isfinite(scores[i].logprob) ? json(scores[i].logprob) : json(nullptr);
    line["greedy"] = scores[i].greedy != 0;
    line["tokens"] = requests[i].continuation;
    if (requests[i].truncated > 0) line["truncated"] = requests[i].truncated;
    text += line.dump() + "\n";
  }
  return text;
}

void show(const EvaluateOptions& o, const std::vector<Line>& requests,
          const std::vector<Score>& scores, int64_t max_length) {
  const std::string text = lines_of(requests, scores);
  if (o.out.empty() || o.out == "-") std::fputs(text.c_str(), stdout);
  else write_text(o.out, text);
  const auto cut = std::count_if(requests.begin(), requests.end(),
                                 [](const Line& r) { return r.truncated > 0; });
  const auto bad = std::count_if(scores.begin(), scores.end(),
                                 [](const Score& s) { return !std::isfinite(s.logprob); });
  // Not through the log: standard output may be the scores.
  if (cut > 0)
    fmt::print(stderr, "note: {} of {} contexts were cut from the left to fit {} tokens\n", cut,
               requests.size(), max_length);
  if (bad > 0) fmt::print(stderr, "warning: {} scores are not finite (null in the output)\n", bad);
}

}  // namespace

int score(World& world, const EvaluateOptions& o) {
  const ModelSource source = open_model(o.model);
  const Config config = probe_config(source.model, o.sets);
  world.set_timeout(config.run.timeout);
  if (!o.out.empty()) check_output("--out", o.out, {o.model, o.tokenizer, o.score});
  const int64_t max_length = o.max_length > 0 ? o.max_length : source.model.max_position_embeddings;
  const ModelText text = text_of(source, o.model, o.tokenizer);
  const std::vector<Line> requests = Reader(o.score, source, text, max_length).read();
  int64_t longest = 1, total = 0;
  for (const Line& r : requests) longest = std::max(longest, r.inputs()), total += r.inputs();
  const int64_t capacity = std::max(longest, std::min(total, kTokensAtOnce));
  const auto rows = rows_of(requests, capacity);

  const auto device = open_device(config.run, world);
  Engine engine(*device,
                {.model = config.model,
                 .precision = precision_of(config.train),
                 .plan = {.largest = {1, capacity}, .positions = longest, .training = false}});
  load_weights(engine, source);
  Digest digest;
  for (const Line& r : requests) digest.add(r.tokens.data(), r.tokens.size() * sizeof(int32_t));
  agree(world.all(), {config_fact(config),
                      text_fact("requests", fmt::format("{} requests of {} tokens, digest {}",
                                                        requests.size(), total, digest.text())),
                      weights_fact(engine)});
  std::vector<Score> scores(requests.size());
  Group& ranks = world.all();
  for (size_t i = static_cast<size_t>(ranks.rank()); i < rows.size();
       i += static_cast<size_t>(ranks.size()))
    score_row(engine, requests, rows[i], scores);
  // Every request is scored by one rank; the others add zeros.
  std::vector<double> sums;
  for (const Score& s : scores) sums.push_back(s.logprob), sums.push_back(double(s.greedy));
  ranks
      .all_reduce(Tensor(sums.data(), Dtype::F64, {static_cast<int64_t>(sums.size())}), Reduce::Sum)
      .wait();
  for (size_t i = 0; i < scores.size(); ++i)
    scores[i] = {sums[2 * i], static_cast<int64_t>(sums[2 * i + 1])};
  if (ranks.rank() == 0) show(o, requests, scores, max_length);
  return 0;
}

}  // namespace ft
