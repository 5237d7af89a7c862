// Loss masks: which labels count.
#include "core/check.h"
#include "data/loader.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <functional>

using namespace ft;
using namespace ft::test;

namespace {

constexpr int64_t kVocab = 100000;

DataConfig config_of(int64_t length, const std::string& path) {
  DataConfig config;
  config.sequence_length = length;
  config.train = {{"a", path}};
  return config;
}

// A token counts where it is a multiple of three.
uint8_t counts(int32_t id) { return id % 3 == 0 ? 1 : 0; }

void write_masked(const std::string& prefix, const std::vector<Document>& documents) {
  TokenWriter writer(prefix, kVocab, true);
  for (const Document& d : documents) {
    std::vector<uint8_t> mask;
    for (const int32_t id : d) mask.push_back(counts(id));
    const auto half = static_cast<int64_t>(d.size() / 2);  // two sequences a document
    writer.add_sequence(d.data(), half, mask.data());
    writer.add_sequence(d.data() + half, static_cast<int64_t>(d.size()) - half, mask.data() + half);
    writer.end_document();
  }
  writer.finish();
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a mask keeps tokens out of the loss, not out of the input", "[mask]") {
  const TempFolder folder;
  const auto documents = numbered_documents(30, 25, 1);
  write_set(folder / "plain", documents);
  write_masked(folder / "masked", documents);
  CHECK(TokenSet(folder / "masked").has_mask());
  CHECK_FALSE(TokenSet(folder / "plain").has_mask());
  for (const bool isolate : {true, false}) {
    for (const char* read : {"mmap", "pread"}) {
      DataConfig a = config_of(9, folder / "plain"), b = config_of(9, folder / "masked");
      a.isolate_documents = b.isolate_documents = isolate;
      b.read = read;
      Loader plain(a, kVocab, 3, 0, 1), masked(b, kVocab, 3, 0, 1);
      int64_t left_out = 0;
      for (int step = 0; step < 20; ++step) {
        const StepBatches one = plain.next(3, 3), two = masked.next(3, 3);
        const Batch &x = one.micro.at(0), &y = two.micro.at(0);
        REQUIRE(x.ids == y.ids);
        REQUIRE(x.docs == y.docs);
        int64_t valid = 0;
        for (size_t i = 0; i < x.labels.size(); ++i) {
          const int32_t label = x.labels[i];
          const bool wanted = label >= 0 && counts(label);
          REQUIRE(y.labels[i] == (wanted ? label : Batch::kIgnore));
          valid += wanted;
          left_out += label >= 0 && !wanted;
        }
        REQUIRE(y.valid == valid);
      }
      CHECK(left_out > 0);
    }
  }
}

TEST_CASE("a mask applies to validation", "[mask]") {
  const TempFolder folder;
  write_masked(folder / "v", {{1, 2, 3, 4, 5, 6}, {7, 8, 9}});
  DataConfig config;
  config.sequence_length = 4;
  const auto all = all_batches(DataSource{"v", folder / "v"}, config, kVocab, 0, 2, 0, 1);
  REQUIRE(all.size() == 1);
  const int32_t no = Batch::kIgnore;
  CHECK(all[0].ids == std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(all[0].labels == std::vector<int32_t>{no, 3, no, no, 6, no, no, 9});
  CHECK(all[0].valid == 3);
}

TEST_CASE("a mask is a part of its set", "[mask]") {
  const TempFolder folder;
  const std::vector<Document> documents{{1, 2, 3}, {4, 5, 6, 7}};
  write_masked(folder / "a", documents);
  const DataConfig config = config_of(2, folder / "a");
  const std::string mask = folder / "a.mask.bin", good = read_text(mask);
  REQUIRE(good.size() == 7);
  const std::string state = Loader(config, kVocab, 3, 0, 1).state();
  Loader(config, kVocab, 3, 0, 1).restore(state);

  std::string other = good;
  other[3] ^= 1;
  write_text(mask, other);
  const auto restore = [&] { Loader(config, kVocab, 3, 0, 1).restore(state); };
  CHECK(refusal(restore).find(".mask.bin changed since the checkpoint") != std::string::npos);
  std::filesystem::remove(mask);
  CHECK(refusal(restore).find("changed since the checkpoint") != std::string::npos);
  write_text(mask, good);
  CHECK(refusal(restore).empty());

  for (const std::string& wrong : {good + "\1", good.substr(1), std::string()}) {
    write_text(mask, wrong);
    const std::string text = refusal([&] { TokenSet set(folder / "a"); });
    INFO(text);
    CHECK(text.find(fmt::format("a.mask.bin: {} bytes for the 7 tokens of", wrong.size())) !=
          std::string::npos);
    CHECK(text.find("remove the mask") != std::string::npos);
  }
  write_set(folder / "a", documents);  // the mask of the set that was there is gone
  CHECK_FALSE(TokenSet(folder / "a").has_mask());
}
