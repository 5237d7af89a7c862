// What a folder of checkpoints comes to: which counts, which is the newest, what may go, and what is
// fit to be kept.
#include "core/path.h"
#include "tests/parallel/checkpoints.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

bool alone() { return test::world().all().size() == 1; }

// Replaces a manifest; its marker is right.
void write_manifest(const std::string& checkpoint, const json& manifest) {
  const std::string text = manifest.dump(1);
  write_text(checkpoint + "/manifest.json", text);
  write_text(checkpoint + "/COMPLETE", detail::hex(detail::text_hash(text)) + "\n");
}
json manifest_of(const std::string& checkpoint) {
  return json::parse(read_text(checkpoint + "/manifest.json"));
}

struct Heard {
  std::vector<std::string> texts;
  Warn warn = [this](const std::string& text) { texts.push_back(text); };
};

}  // namespace

TEST_CASE("the name of a checkpoint is step- and digits, nothing else", "[checkpoint]") {
  CHECK(checkpoint_step("runs/a/checkpoints/step-00000100") == 100);
  CHECK(checkpoint_step("step-0") == 0);
  for (const char* other :
       {"step-", "step-8.bak", "old-step-8", "before-cooldown-1", "8", "step-8a", "Step-8",
        "step--8", "step-+8", "step- 8", "step-99999999999999999999", ".tmp-step-8", ""})
    CHECK(checkpoint_step(other) == -1);
}

TEST_CASE("folders of other names are neither counted nor removed nor taken", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  for (int step : {4, 8}) save_step(folder.path, fmt::format("step-{:08}", step), step);
  for (const char* other : {"before-cooldown-1", "step-00000099.bak", "old-step-00000100", "77"})
    fs::copy(folder.path + "/step-00000004", folder.path + "/" + other);
  CHECK(newest_checkpoint(folder.path, nullptr) == folder.path + "/step-00000008");
  CHECK(list_checkpoints(folder.path).size() == 2);
  CHECK(checkpoints_after(folder.path, 4).size() == 1);
  retain_checkpoints(folder.path, 1, 0);
  CHECK(names_in(folder.path) == std::vector<std::string>{"77", "before-cooldown-1",
                                                          "old-step-00000100", "step-00000008",
                                                          "step-00000099.bak"});
  CHECK(Checkpoint(folder.path + "/before-cooldown-1").number("step") == 4);  // by its path
}

TEST_CASE("a link to a checkpoint is not called removed where its target is", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  for (int step : {4, 8}) save_step(folder.path, fmt::format("step-{:08}", step), step);
  fs::create_directory_symlink("step-00000004", folder.path + "/step-00000200");
  CHECK(retain_checkpoints(folder.path, 1, 0) ==
        std::vector<std::string>{folder.path + "/step-00000004"});
}

TEST_CASE("where name and manifest differ, the manifest says the step", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  for (int step : {2, 4, 8}) save_step(folder.path, fmt::format("step-{:08}", step), step);
  fs::copy(folder.path + "/step-00000004", folder.path + "/step-00000099");
  fs::copy(folder.path + "/step-00000008", folder.path + "/step-00000001");
  fs::remove_all(folder.path + "/step-00000008");
  CHECK(newest_checkpoint(folder.path, nullptr) == folder.path + "/step-00000001");
  CHECK(checkpoints_after(folder.path, 4) ==
        std::vector<std::string>{folder.path + "/step-00000001"});
  Heard heard;
  retain_checkpoints(folder.path, 1, 0, heard.warn);
  CHECK(names_in(folder.path) ==
        std::vector<std::string>{"step-00000001", "step-00000004", "step-00000099"});
  REQUIRE(heard.texts.size() == 2);
  CHECK_THAT(heard.texts[0],
             Catch::Contains("step-00000099") && Catch::Contains("manifest says step 4"));
}

TEST_CASE("a damaged checkpoint takes no place of a good one", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  for (int step : {2, 4, 8}) save_step(folder.path, fmt::format("step-{:08}", step), step);
  flip(folder.path + "/step-00000008/manifest.json", 30);
  Heard heard;
  retain_checkpoints(folder.path, 2, 0, heard.warn);
  CHECK(names_in(folder.path).size() == 3);
  REQUIRE(heard.texts.size() == 1);
  CHECK_THAT(heard.texts[0], Catch::Contains("step-00000008") && Catch::Contains("damaged"));
}

TEST_CASE("what killed runs left is cleared before room is needed", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  save_step(folder.path, "step-00000004", 4);
  for (const char* left :
       {".tmp-step-00000008", ".tmp-gone-step-00000002", ".tmp-old-step-00000004"})
    fs::copy(folder.path + "/step-00000004", folder.path + "/" + left);
  fs::copy(folder.path + "/step-00000004", folder.path + "/.tmp-old-step-00000003");
  SECTION("with a save") {
    save_step(folder.path, "step-00000012", 12);
    fs::remove_all(folder.path + "/step-00000012");
  }
  SECTION("at a start") { clear_leftovers(folder.path); }
  // What had stepped aside for one that never came is back.
  CHECK(names_in(folder.path) == std::vector<std::string>{"step-00000003", "step-00000004"});
  CHECK(whole(Checkpoint(folder.path + "/step-00000003")));
  clear_leftovers(folder.path + "/nowhere");
}

TEST_CASE("what is no folder, or cannot be listed, is not an empty folder", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  fs::create_directories(folder.path);
  write_text(folder.path + "/checkpoints", "");
  CHECK_THROWS_WITH(newest_checkpoint(folder.path + "/checkpoints", nullptr),
                    Catch::Contains(folder.path + "/checkpoints: cannot be listed: "));
  CHECK_THROWS_AS(list_checkpoints(folder.path + "/checkpoints"), Error);
  CHECK_THROWS_AS(retain_checkpoints(folder.path + "/checkpoints", 1, 0), Error);
}

TEST_CASE("weights that are no finite numbers are refused by name and leave all as it was",
          "[mpi]") {
  const Folder folder;
  Group& all = test::world().all();
  save(folder.path, "step-1");
  const float bad = GENERATE(std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity(), std::nanf(""));
  Offer offer(all);
  if (all.rank() == all.size() - 1) offer.vector[3] = offer.vector[7] = bad;
  CHECK_THROWS_WITH(save_checkpoint(all, folder.path, "step-2", offer.pieces, {}),
                    Catch::Contains("2 of 11 values of vector"));
  on_one_rank([&] { CHECK(names_in(folder.path) == std::vector<std::string>{"step-1"}); });
  Offer good(all);
  if (all.rank() == all.size() - 1)
    good.vector[3] = std::numeric_limits<float>::max(), good.vector[4] = 1e-42f;
  save_checkpoint(all, folder.path, "step-2", good.pieces, {});  // it may be called again
  CHECK(Checkpoint(folder.path + "/step-2").contains("vector"));
}

TEST_CASE("every byte of a rank's file is known to its manifest", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  const std::string path = folder.path + "/step-1", data = path + "/rank-00000.safetensors";
  save(folder.path, "step-1");
  const auto size = static_cast<int64_t>(fs::file_size(data));
  const auto header = manifest_of(path)["files"]["rank-00000.safetensors"]["header_bytes"];
  for (const int64_t at : {int64_t{0}, int64_t{9}, header.get<int64_t>() - 1}) {
    flip(data, size - at);
    CHECK_THROWS_WITH(open_and_verify(path), Catch::Contains("rank-00000.safetensors: its header"));
    flip(data, size - at);
  }
  for (int64_t at = header.get<int64_t>(); at < size; at += 397) {
    flip(data, size - at);
    CHECK_THROWS_WITH(open_and_verify(path), Catch::Contains("checksum"));
    flip(data, size - at);
  }
  open_and_verify(path);
  std::ofstream(data, std::ios::app) << "x";
  CHECK_THROWS_WITH(open_and_verify(path), Catch::Contains("too long"));
}

TEST_CASE("a checkpoint without a list of its files is read", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  const std::string path = folder.path + "/step-1";
  save(folder.path, "step-1");
  json manifest = manifest_of(path);
  manifest.erase("files");
  write_manifest(path, manifest);
  open_and_verify(path);
  CHECK(whole(Checkpoint(path)));
  CHECK(newest_checkpoint(folder.path, nullptr) == path);
  for (const json& bad :
       {json(3), json{{"../x", json::object()}}, json{{"rank-00000.safetensors", {{"bytes", -1}}}},
        json{{"rank-00000.safetensors",
              {{"bytes", 4}, {"header_bytes", 8}, {"header_xxh64", std::string(16, '0')}}}}}) {
    manifest["files"] = bad;
    write_manifest(path, manifest);
    CHECK_THROWS_AS(open_and_verify(path), Error);
  }
}

TEST_CASE("numbers of the state are whole, not negative and not too large", "[checkpoint]") {
  if (!alone()) return;
  const Folder folder;
  for (const char* bad : {"", "eight", "-1", "8 ", " 8", "8.0", "0x8", "1e3", "9223372036854775808",
                          "9007199254740993", "+8"}) {
    save(folder.path, "step-8", 0, {{"step", bad}, {"tokens", "12"}});
    CHECK_THROWS_WITH(Checkpoint(folder.path + "/step-8"),
                      Catch::Contains("step-8/manifest.json") && Catch::Contains("\"step\"") &&
                          Catch::Contains(fmt::format("\"{}\"", bad)));
    Heard heard;
    CHECK_FALSE(newest_checkpoint(folder.path, heard.warn));
    CHECK(heard.texts.size() == 1);
  }
  save(folder.path, "step-8", 0, {{"step", "8"}, {"tokens", "9007199254740992"}});
  const Checkpoint c(folder.path + "/step-8");
  CHECK(c.number("step") == 8);
  CHECK(c.number("tokens") == int64_t{1} << 53);
  CHECK_THROWS_WITH(c.number("updates"), Catch::Contains("\"updates\" is missing"));
  CHECK_THROWS_WITH(c.text("data"), Catch::Contains("\"data\""));
}

TEST_CASE("ranks that hold the same share it out evenly", "[checkpoint]") {
  if (!alone()) return;
  std::vector<float> storage(3000 * 70);
  for (size_t i = 0; i < storage.size(); ++i) storage[i] = static_cast<float>(i);
  std::vector<CheckpointPiece> pieces;
  const auto add = [&](const char* name, int64_t rows, int64_t cols) {
    pieces.push_back({name, {rows, cols}, 5, 3, rows, cols, rows_of(storage.data(), cols, cols)});
  };
  add("large", 3000, 70), add("one", 1, 1), add("empty", 0, 4), add("small", 17, 3);
  const int64_t total = 3000 * 70 + 1 + 17 * 3;
  for (const int ranks : {1, 2, 3, 7, 64}) {
    std::vector<std::vector<int>> seen;  // by piece and row
    for (const auto& p : pieces) seen.emplace_back(p.rows);
    int64_t least = total, most = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      int64_t mine = 0;
      for (const CheckpointPiece& p : share_of_pieces(pieces, rank, ranks)) {
        const auto whole = std::find_if(pieces.begin(), pieces.end(),
                                        [&](const auto& w) { return w.name == p.name; });
        const int64_t first = p.row - whole->row;
        if (p.rows > 0) {
          std::vector<float> row(static_cast<size_t>(p.cols));
          p.read(p.rows - 1, 1, row.data());
          CHECK(row[0] == static_cast<float>((first + p.rows - 1) * p.cols));
        }
        for (int64_t r = 0; r < p.rows; ++r)
          ++seen[static_cast<size_t>(whole - pieces.begin())][static_cast<size_t>(first + r)];
        mine += p.rows * p.cols;
      }
      least = std::min(least, mine), most = std::max(most, mine);
    }
    for (const auto& rows : seen)
      CHECK(std::all_of(rows.begin(), rows.end(), [](int n) { return n == 1; }));
    CHECK(most - least <= 2 * 70);
  }
  CHECK(share_of_pieces(pieces, 0, 64)[1].name == "empty");  // named by rank 0 alone
  std::vector<CheckpointPiece> scalar = {pieces[1]};
  CHECK(share_of_pieces(scalar, 0, 2).size() + share_of_pieces(scalar, 1, 2).size() == 1);
}

TEST_CASE("all ranks write and verify their shares, the empty-handed write none", "[mpi]") {
  const Folder folder;
  Group& all = test::world().all();
  std::vector<float> values(kRows * kCols);
  for (int64_t i = 0; i < kRows * kCols; ++i)
    values[static_cast<size_t>(i)] = element(i / kCols, i % kCols);
  float one = 3;
  const std::vector<CheckpointPiece> large = {{"matrix",
                                               {kRows, kCols},
                                               0,
                                               0,
                                               kRows,
                                               kCols,
                                               rows_of(values.data(), kCols, kCols)}},
                                     tiny = {{"one", {1}, 0, 0, 1, 1, rows_of(&one, 1, 1)}};
  for (int step : {1, 2})
    save_checkpoint(all, folder.path, fmt::format("step-{}", step),
                    share_of_pieces(large, all.rank(), all.size()),
                    {{"step", std::to_string(step)}});
  save_checkpoint(all, folder.path, "step-0", share_of_pieces(tiny, all.rank(), all.size()),
                  {{"step", "0"}});
  const auto files = [&](const char* name) {
    auto names = names_in(folder.path + "/" + name);
    std::erase_if(names, [](const std::string& n) { return !n.ends_with(".safetensors"); });
    return names;
  };
  CHECK(files("step-1").size() == static_cast<size_t>(all.size()));
  CHECK(files("step-0").size() == 1);
  for (const std::string& name : files("step-1"))
    CHECK(read_text(folder.path + "/step-1/" + name) == read_text(folder.path + "/step-2/" + name));
  const Checkpoint c(folder.path + "/step-2");
  std::vector<float> read(values.size());
  read_box(c, "matrix", {0, 0, kRows, kCols}, read.data());
  CHECK(read == values);

  Heard heard;
  CHECK(newest_checkpoint(all, folder.path, heard.warn) == folder.path + "/step-2");
  CHECK(heard.texts.empty());
  const std::string last = folder.path + "/step-2/" + detail::rank_file(all.size() - 1);
  on_one_rank([&] { flip(last, 6); });
  // Of several readers one sees it, and all know.
  int faults = 0;
  for (int reader = 0; reader < 5; ++reader) {
    try {
      Checkpoint(folder.path + "/step-2").verify(reader, 5);
    } catch (const Error&) {
      ++faults;
    }
  }
  CHECK(faults == 1);
  CHECK(newest_checkpoint(all, folder.path, heard.warn) == folder.path + "/step-1");
  CHECK(heard.texts.size() == (all.rank() == 0 ? 1 : 0));
  on_one_rank([&] {
    for (const char* name : {"/step-0", "/step-1"}) fs::remove(folder.path + name + "/COMPLETE");
  });
  CHECK_FALSE(newest_checkpoint(all, folder.path, heard.warn));
  CHECK_FALSE(newest_checkpoint(all, folder.path + "/nowhere", nullptr));
  CHECK_THROWS_WITH(newest_checkpoint(all, last, nullptr), Catch::Contains("cannot be listed"));
}
