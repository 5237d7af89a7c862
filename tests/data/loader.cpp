#include "core/check.h"
#include "data/loader.h"
#include "data/mix.h"
#include "data/order.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <algorithm>
#include <map>
#include <set>

using namespace ft;
using namespace ft::test;

namespace {

constexpr int64_t kVocab = 100000;
constexpr uint64_t kSeed = 5;

DataConfig config_of(int64_t length, const std::vector<DataSource>& sources) {
  DataConfig config;
  config.sequence_length = length;
  config.train = sources;
  return config;
}

// Counts inputs: how often every token was one.
void count_inputs(const StepBatches& step, std::map<int32_t, int64_t>& count) {
  for (const Batch& batch : step.micro)
    for (const int32_t id : batch.ids) ++count[id];
}

using Row = std::vector<int32_t>;
std::vector<Row> rows_of(const StepBatches& step) {
  std::vector<Row> rows;
  for (const Batch& b : step.micro)
    for (int64_t r = 0; r < b.sequences; ++r) {
      Row row;
      for (int64_t i = r * b.length; i < (r + 1) * b.length; ++i) {
        const auto at = static_cast<size_t>(i);
        row.insert(row.end(),
                   {b.ids[at], b.labels[at], b.docs[at] - static_cast<int32_t>(r * b.length)});
      }
      rows.push_back(row);
    }
  return rows;
}

template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// Every token of a source was an input e or e + 1 times, all of them one whole number of epochs
// plus a part: the number of inputs tells which, so nothing was dropped or repeated within an
// epoch.
void check_each_once(const std::map<int32_t, int64_t>& count,
                     const std::vector<Document>& documents) {
  int64_t total = 0, most = 0, least = 1 << 30;
  for (const Document& d : documents)
    for (const int32_t id : d) {
      const auto found = count.find(id);
      const int64_t n = found == count.end() ? 0 : found->second;
      total += n, most = std::max(most, n), least = std::min(least, n);
    }
  const int64_t tokens = count_tokens(documents);
  CHECK(least == total / tokens);
  CHECK(most == (total + tokens - 1) / tokens);
}

}  // namespace

TEST_CASE("the permutation is one, and another for every key", "[order]") {
  for (const int64_t size : {1, 2, 3, 5, 64, 65, 1000, 4097}) {
    std::vector<int64_t> seen;
    for (int64_t i = 0; i < size; ++i) seen.push_back(permuted(99, size, i));
    auto sorted = seen;
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < size; ++i) REQUIRE(sorted[static_cast<size_t>(i)] == i);
    if (size >= 64) CHECK(seen != sorted);
    if (size >= 64)
      CHECK(seen[0] + seen[1] * size != permuted(100, size, 0) + permuted(100, size, 1) * size);
  }
  const int64_t huge = (int64_t{1} << 40) + 12345;
  std::set<int64_t> values;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t v = permuted(1, huge, i);
    REQUIRE((v >= 0 && v < huge));
    values.insert(v);
  }
  CHECK(values.size() == 1000);
}

TEST_CASE("a blend follows its weights, ties to the first", "[mix]") {
  Blend blend = make_blend({2, 1, 1});
  std::vector<int64_t> first;
  for (int i = 0; i < 8; ++i) first.push_back(blend.next());
  // lag_i = w_i * (n + 1) - taken_i, by hand
  CHECK(first == std::vector<int64_t>{0, 1, 2, 0, 0, 1, 2, 0});
  blend = make_blend({0.7, 0.2, 0.1, 0});
  for (int64_t n = 1; n <= 10000; ++n) {
    blend.next();
    for (size_t i = 0; i < 3; ++i)
      REQUIRE(std::abs(static_cast<double>(blend.taken[i]) -
                       blend.weights[i] * static_cast<double>(n)) < 2);
  }
  CHECK(blend.taken[3] == 0);
  CHECK_THROWS_AS(make_blend({0, 0}), ConfigError);
  CHECK_THROWS_AS(make_blend({1, -1}), ConfigError);
}

TEST_CASE("inputs, labels and document starts of a sample, by hand", "[loader]") {
  const TempFolder folder;
  write_set(folder / "a", {{1, 2, 3, 4, 5}});  // one document: its order is known
  for (const bool isolate : {true, false}) {
    DataConfig config = config_of(4, {{"a", folder / "a"}});
    config.isolate_documents = isolate;
    Loader loader(config, kVocab, kSeed, 0, 1);
    const StepBatches step = loader.next(2, 2);
    REQUIRE(step.micro.size() == 1);
    const Batch& b = step.micro[0];
    CHECK(b.ids == Row{1, 2, 3, 4, 5, 1, 2, 3});
    if (isolate) {
      CHECK(b.labels ==
            Row{2, 3, 4, 5, -100, 2, 3, 4});  // 5 ends the document: its successor is another's
      CHECK(b.docs == Row{0, 0, 0, 0, 4, 5, 5, 5});  // 5 begins its row: fresh state
      CHECK(b.valid == 7);
    } else {
      CHECK(b.labels == Row{2, 3, 4, 5, 1, 2, 3, 4});
      CHECK(b.docs == Row{0, 0, 0, 0, 4, 4, 4, 4});
      CHECK(b.valid == 8);
    }
    CHECK(step.tokens == 8);
    CHECK(step.per_source == std::map<std::string, int64_t>{{"a", 8}});
    CHECK(step.epochs.at("a") == Approx(1.6));
  }
}

TEST_CASE("each token of an epoch is an input once", "[loader]") {
  const TempFolder folder;
  const auto documents = numbered_documents(40, 23, 1);
  write_set(folder / "a", documents);
  const int64_t tokens = count_tokens(documents);
  for (const int64_t length : {1, 7, 16, 2000}) {  // 2000: several epochs in a sample
    Loader loader(config_of(length, {{"a", folder / "a"}}), kVocab, kSeed, 0, 1);
    std::map<int32_t, int64_t> count;
    int64_t given = 0;
    for (int step = 0; given < 3 * tokens; ++step) {
      count_inputs(loader.next(2, 1), count);
      given += 2 * length;
      check_each_once(count, documents);
    }
  }
}

TEST_CASE("labels are the next tokens of the same document", "[loader]") {
  const TempFolder folder;
  const auto documents = numbered_documents(30, 12, 1);
  std::map<int32_t, int32_t> successor;
  for (const Document& d : documents)
    for (size_t i = 0; i < d.size(); ++i)
      successor[d[i]] = i + 1 < d.size() ? d[i + 1] : Batch::kIgnore;
  write_set(folder / "a", documents);
  Loader loader(config_of(9, {{"a", folder / "a"}}), kVocab, kSeed, 0, 1);
  for (int step = 0; step < 60; ++step) {
    const StepBatches s = loader.next(3, 3);
    const Batch& b = s.micro.at(0);
    int64_t valid = 0;
    for (size_t i = 0; i < b.ids.size(); ++i) {
      REQUIRE(b.labels[i] == successor.at(b.ids[i]));
      valid += b.labels[i] >= 0;
      const bool fresh = i % 9 == 0 || b.labels[i - 1] < 0;
      REQUIRE(b.docs[i] == (fresh ? static_cast<int32_t>(i) : b.docs[i - 1]));
    }
    REQUIRE(b.valid == valid);
  }
}

TEST_CASE("weights, sources and sequence length change in mid-run; no token is lost or repeated",
          "[loader]") {
  const TempFolder folder;
  const auto a = numbered_documents(50, 30, 1), b = numbered_documents(31, 40, 10000),
             c = numbered_documents(20, 9, 20000);
  write_set(folder / "a", a), write_set(folder / "b", b), write_set(folder / "c", c);
  const DataSource A{"a", folder / "a", 3}, B{"b", folder / "b", 1}, C{"c", folder / "c", 0.5};
  DataSource heavy_b = B;
  heavy_b.weight = 9;
  const std::vector<DataConfig> stages{
      config_of(8, {A, B}),     config_of(8, {A, heavy_b}), config_of(8, {C, A, heavy_b}),
      config_of(32, {C, A, B}), config_of(5, {B}),          config_of(5, {B, A}),
      config_of(16, {A, B, C}), config_of(16, {A, B, C})};
  std::map<int32_t, int64_t> count;
  std::string state;
  for (const DataConfig& stage : stages) {
    Loader loader(stage, kVocab, kSeed, 0, 1);
    if (!state.empty()) loader.restore(state);
    for (int step = 0; step < 13; ++step) {
      count_inputs(loader.next(3, 2), count);
      check_each_once(count, a), check_each_once(count, b), check_each_once(count, c);
    }
    state = loader.state();
  }
  INFO(state);
  CHECK(state.size() < 2000);
}

TEST_CASE("any number of ranks takes the same samples per step", "[loader]") {
  const TempFolder folder;
  write_set(folder / "a", numbered_documents(50, 30, 1));
  write_set(folder / "b", numbered_documents(30, 30, 20000));
  const DataConfig config = config_of(11, {{"a", folder / "a", 2}, {"b", folder / "b", 1}});
  std::vector<std::vector<Row>> alone;
  {
    Loader loader(config, kVocab, kSeed, 0, 1);
    for (int step = 0; step < 12; ++step) alone.push_back(rows_of(loader.next(8, 8)));
  }
  for (const int ranks : {2, 4, 8}) {
    for (int rank = 0; rank < ranks; ++rank) {
      Loader loader(config, kVocab, kSeed, rank, ranks);
      for (size_t step = 0; step < alone.size(); ++step) {
        const StepBatches s = loader.next(8, 3);
        const auto rows = rows_of(s);
        REQUIRE(rows.size() == static_cast<size_t>(8 / ranks));
        for (size_t i = 0; i < rows.size(); ++i)
          REQUIRE(rows[i] ==
                  alone[step][static_cast<size_t>(rank) + i * static_cast<size_t>(ranks)]);
        for (const Batch& b : s.micro) REQUIRE(b.sequences <= 3);
        REQUIRE(s.tokens == 88);
        REQUIRE(s.per_source.at("a") + s.per_source.at("b") == 88);
      }
    }
  }
  Loader loader(config, kVocab, kSeed, 0, 4);
  CHECK_THROWS_AS(loader.next(6, 1), ConfigError);
}

TEST_CASE("a restored stream is the uninterrupted one", "[loader]") {
  const TempFolder folder;
  write_set(folder / "a", numbered_documents(50, 30, 1));
  write_set(folder / "b", numbered_documents(30, 30, 20000));
  const DataConfig config = config_of(11, {{"a", folder / "a", 2}, {"b", folder / "b", 1}});
  std::vector<std::string> states;
  std::vector<std::vector<Row>> steps;
  Loader whole(config, kVocab, kSeed, 1, 2);
  for (int step = 0; step < 15; ++step) {
    states.push_back(whole.state());
    steps.push_back(rows_of(whole.next(6, 2)));
    CHECK(whole.state() == whole.state());
  }
  for (size_t from = 0; from < steps.size(); ++from) {
    Loader resumed(config, kVocab, kSeed, 1, 2);
    if (from % 2) resumed.next(4, 4);  // restore() drops what was prefetched
    resumed.restore(states[from]);
    REQUIRE(resumed.state() == states[from]);
    for (size_t step = from; step < steps.size(); ++step)
      REQUIRE(rows_of(resumed.next(6, 2)) == steps[step]);
  }
  // Another batch size: what was prefetched is taken back, the stream of samples is the same.
  Loader one(config, kVocab, kSeed, 0, 1), other(config, kVocab, kSeed, 0, 1);
  std::vector<Row> a, b;
  for (const int64_t batch : {2, 3, 1, 6})
    for (const Row& row : rows_of(one.next(batch, 2))) a.push_back(row);
  for (const int64_t batch : {6, 6})
    for (const Row& row : rows_of(other.next(batch, 4))) b.push_back(row);
  CHECK(a == b);
  CHECK(one.state() == other.state());
}

TEST_CASE("restore refuses what would go wrong", "[loader]") {
  const TempFolder folder;
  write_set(folder / "a", {{1, 2, 3}, {4, 5}});
  const DataConfig config = config_of(2, {{"a", folder / "a"}});
  std::string state;
  {
    Loader loader(config, kVocab, kSeed, 0, 1);
    loader.next(2, 1);
    state = loader.state();
    CHECK_THROWS_AS(loader.restore("{"), ConfigError);
    CHECK_THROWS_AS(loader.restore("{\"samples\": 3}"), ConfigError);
    CHECK(loader.state() == state);
  }
  CHECK_THROWS_AS(Loader(config, kVocab, kSeed + 1, 0, 1).restore(state), ConfigError);
  write_set(folder / "a", {{1, 2, 3}, {4, 6}});
  CHECK_THROWS_AS(Loader(config, kVocab, kSeed, 0, 1).restore(state), ConfigError);
  CHECK(refusal([&] {
          Loader(config, kVocab, kSeed, 0, 1).restore(state);
        }).find("changed since") != std::string::npos);
  Loader(config_of(2, {{"a2", folder / "a"}}), kVocab, kSeed, 0, 1)
      .restore(state);  // a new name: afresh
}

TEST_CASE("a bad token is reported by next(), with file and document", "[loader]") {
  const TempFolder folder;
  write_set(folder / "a", {{1, 2, 3, 4, 77, 5}});
  Loader loader(config_of(2, {{"a", folder / "a"}}), 77, kSeed, 0, 1);
  loader.next(1, 1);  // 1 2 (3); the prefetch of 3 4 (77) fails behind it
  const std::string state = loader.state();
  for (int again = 0; again < 2; ++again) {
    const std::string text = refusal([&] { loader.next(1, 1); });
    CHECK(text.find("a.bin: document 0, token 4: id 77 is outside the vocabulary of 77") !=
          std::string::npos);
    CHECK(loader.state() == state);
  }
}

TEST_CASE("sources that cannot give tokens are refused", "[loader]") {
  const TempFolder folder;
  write_set(folder / "none", {});
  write_set(folder / "hollow", {{}, {}});
  write_set(folder / "a", {{}, {1}, {}});
  CHECK_THROWS_AS(Loader(config_of(2, {{"n", folder / "none"}}), kVocab, kSeed, 0, 1), ConfigError);
  CHECK_THROWS_AS(Loader(config_of(2, {{"h", folder / "hollow"}}), kVocab, kSeed, 0, 1),
                  ConfigError);
  CHECK_THROWS_AS(Loader(config_of(2, {{"", folder / "gone"}}), kVocab, kSeed, 0, 1), ConfigError);
  CHECK_THROWS_AS(
      Loader(config_of(2, {{"x", folder / "a"}, {"x", folder / "a"}}), kVocab, kSeed, 0, 1),
      ConfigError);
  CHECK_THROWS_AS(Loader(config_of(0, {{"a", folder / "a"}}), kVocab, kSeed, 0, 1), ConfigError);
  Loader one(config_of(3, {{"", folder / "a"}}), kVocab, kSeed, 0, 1);  // one token, over and over
  const StepBatches step = one.next(1, 1);
  CHECK(step.micro[0].ids == Row{1, 1, 1});
  CHECK(step.micro[0].valid == 0);
  CHECK(step.epochs.at(folder / "a") >= 2.0);
  CHECK(one.description().find("3 documents, 1 tokens (int32)") != std::string::npos);
}

TEST_CASE("epochs count tokens, whatever the documents' lengths", "[loader]") {
  const TempFolder folder;
  std::vector<Document> documents(100, Document{1, 2});  // 99 short ones and one of 802 tokens
  documents[41] = Document(802, 3);
  write_set(folder / "a", documents);
  const DataConfig config = config_of(10, {{"a", folder / "a"}});
  Loader loader(config, kVocab, kSeed, 0, 1);
  for (int step = 1; step <= 250; ++step) {  // 1000 tokens an epoch, 10 a step
    CHECK(loader.next(1, 1).epochs.at("a") == Approx(step / 100.0).epsilon(1e-12));
    if (step == 77 || step == 100 || step == 230) {
      // From a checkpoint, and from one that does not say the tokens of an epoch.
      const std::string state = loader.state();
      std::string older = state;
      const size_t at = older.find("\"tokens\":");
      REQUIRE(at != std::string::npos);
      older.replace(at, older.find_first_of(",}", at) - at, "\"other\":0");
      for (const std::string& text : {state, older}) {
        Loader again(config, kVocab, kSeed, 0, 1);
        again.restore(text);
        CHECK(again.next(1, 1).epochs.at("a") == Approx((step + 1) / 100.0).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("validation reads a set once in file order and pads the last sample", "[validation]") {
  const TempFolder folder;
  write_set(folder / "v", {{1, 2, 3}, {}, {4, 5, 6, 7}, {8, 9}});
  const DataSource source{"v", folder / "v"};
  const DataConfig config = config_of(4, {});
  const auto all = all_batches(source, config, kVocab, 0, 2, 0, 1);
  REQUIRE(all.size() == 1);  // after two samples 9 alone is left, and nothing to predict
  const int32_t none = Batch::kIgnore;
  CHECK(all[0].ids == Row{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(all[0].labels == Row{2, 3, none, 5, 6, 7, none, 9});
  CHECK(all[0].docs == Row{0, 0, 0, 3, 4, 4, 4, 7});
  CHECK(all[0].valid == 6);
}

TEST_CASE("validation samples are dealt out to ranks, with equally many rows", "[validation]") {
  const TempFolder folder;
  Document d(23);
  for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<int32_t>(i + 1);
  write_set(folder / "v", {d});
  const DataSource source{"v", folder / "v"};
  for (const int ranks : {1, 2, 4}) {
    for (const int64_t most : {0, 3}) {
      std::map<int32_t, int64_t> labels;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto batches = all_batches(source, config_of(4, {}), kVocab, most, 2, rank, ranks);
        int64_t rows = 0;
        for (const Batch& b : batches) {
          rows += b.sequences;
          int64_t valid = 0;
          for (const int32_t label : b.labels)
            if (label >= 0) ++labels[label], ++valid;
          CHECK(valid == b.valid);
        }
        const int64_t samples = most ? most : 6;
        CHECK(rows == (samples + ranks - 1) / ranks);
      }
      CHECK(labels.size() == (most ? 12u : 22u));
      for (const auto& [label, n] : labels) CHECK(n == 1);
    }
  }
  const auto last = all_batches(source, config_of(4, {}), kVocab, 0, 6, 0, 1).back();
  CHECK(Row(last.ids.end() - 4, last.ids.end()) == Row{21, 22, 23, 0});
  CHECK(Row(last.labels.end() - 4, last.labels.end()) == Row{22, 23, -100, -100});
  CHECK(Row(last.docs.end() - 4, last.docs.end()) == Row{20, 20, 20, 23});
  write_set(folder / "one", {{1}});
  CHECK_THROWS_AS(
      all_batches(DataSource{"o", folder / "one"}, config_of(4, {}), kVocab, 0, 1, 0, 1),
      ConfigError);
  CHECK_THROWS_AS(all_batches(source, config_of(4, {}), 23, 0, 1, 0, 1), Error);
}

TEST_CASE("make_batch finds document starts and labels", "[batch]") {
  const Batch plain = make_batch(2, 3, {1, 2, 3, 4, 5, 6}, {}, {});
  CHECK(plain.labels == Row{2, 3, -100, 5, 6, -100});
  CHECK(plain.docs == Row{0, 0, 0, 3, 3, 3});
  CHECK(plain.valid == 4);
  const Batch packed = make_batch(1, 5, {1, 2, 3, 4, 5}, {7, 7, 8, 8, 9}, {});
  CHECK(packed.labels == Row{2, -100, 4, -100, -100});
  CHECK(packed.docs == Row{0, 0, 2, 2, 4});
  const Batch labelled = make_batch(1, 3, {1, 2, 3}, {}, {9, -100, 8});
  CHECK(labelled.labels == Row{9, -100, 8});
  CHECK(labelled.valid == 2);
  CHECK_THROWS_AS(make_batch(1, 3, {1, 2}, {}, {}), Error);
}
