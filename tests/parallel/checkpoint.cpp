// Checkpoints: saved by any number of ranks, read whole, refused by name of the fault when damaged.
#include "tests/parallel/checkpoints.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>
#include <thread>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

TEST_CASE("a checkpoint saved by all ranks is read whole and in any box", "[mpi]") {
  const Folder folder;
  save(folder.path, "step-00000001", 0, {{"step", "1"}, {"config", "a: \"b\"\nß"}});
  const Checkpoint c(folder.path + "/step-00000001");
  CHECK(c.state().at("config") == "a: \"b\"\nß");
  CHECK(c.names() == std::vector<std::string>{"matrix", "vector"});
  CHECK(c.shape("matrix") == std::vector<int64_t>{kRows, kCols});
  CHECK_FALSE(c.contains("other"));
  c.verify();
  CHECK(whole(c));
  std::vector<float> box(8 * 20,
                         -7.f);  // 5 x 13 in a wider storage, across pieces of several ranks
  for (int64_t row : {0, 4, 16, 32}) {
    read_box(c, "matrix", {row, 3, 5, 13}, box.data() + 20 + 2, 20);
    bool right = true;
    for (int64_t r = 0; r < 5; ++r)
      for (int64_t col = 0; col < 13; ++col)
        right =
            right && box[static_cast<size_t>((r + 1) * 20 + col + 2)] == element(row + r, 3 + col);
    CHECK(right);
    CHECK(std::count(box.begin(), box.end(), -7.f) == 160 - 65);
  }
  CHECK_THROWS_WITH(read_box(c, "matrix", {kRows - 1, 0, 2, 1}, box.data()),
                    Catch::Contains("outside"));
  CHECK_THROWS_WITH(read_box(c, "other", {0, 0, 2, 1}, box.data()), Catch::Contains("other"));
  if (test::world().all().rank() == 0)
    for (const auto& entry : fs::directory_iterator(folder.path))
      CHECK(entry.path().filename() == "step-00000001");
}

TEST_CASE("saving over an existing checkpoint replaces it, a leftover is cleared", "[mpi]") {
  const Folder folder;
  on_one_rank([&] {
    fs::create_directories(folder.path + "/.tmp-step-1");
    std::ofstream(folder.path + "/.tmp-step-1/COMPLETE") << "stale";
  });
  CHECK(list_checkpoints(folder.path).empty());
  save(folder.path, "step-1");
  save(folder.path, "step-1", 5);
  CHECK(whole(Checkpoint(folder.path + "/step-1"), 5));
  const auto count = std::distance(fs::directory_iterator(folder.path), fs::directory_iterator());
  CHECK(count == 1);
}

TEST_CASE("damage is named, and the newest sound checkpoint is found", "[mpi]") {
  const Folder folder;
  const int ranks = test::world().all().size();
  for (int step = 1; step <= 6; ++step)
    save(folder.path, fmt::format("step-{:08}", step), static_cast<float>(step));
  const auto at = [&](int step) { return fmt::format("{}/step-{:08}", folder.path, step); };
  const std::string last = detail::rank_file(ranks - 1);
  on_one_rank([&] {
    fs::resize_file(at(6) + "/" + last, fs::file_size(at(6) + "/" + last) - 4);
    fs::remove(at(5) + "/" + last);
    flip(at(4) + "/" + last, 6);
    fs::remove(at(3) + "/COMPLETE");
    flip(at(2) + "/manifest.json", 30);
  });
  CHECK_THROWS_WITH(open_and_verify(at(6)), Catch::Contains("too short") && Catch::Contains(last));
  CHECK_THROWS_WITH(open_and_verify(at(5)), Catch::Contains("missing") && Catch::Contains(last));
  CHECK_THROWS_WITH(open_and_verify(at(4)),
                    Catch::Contains("damaged") && Catch::Contains("vector"));
  CHECK_THROWS_AS(whole(Checkpoint(at(4))), Error);  // reading alone finds it too
  CHECK_THROWS_WITH(open_and_verify(at(3)), Catch::Contains("COMPLETE"));
  CHECK_THROWS_WITH(open_and_verify(at(2)),
                    Catch::Contains("manifest.json") && Catch::Contains("damaged"));
  CHECK(list_checkpoints(folder.path).size() == 5);
  std::vector<std::string> warnings;
  const auto newest =
      newest_checkpoint(folder.path, [&](const std::string& text) { warnings.push_back(text); });
  CHECK(newest == at(1));
  CHECK(warnings.size() == 5);  // the one without its marker is named too
  CHECK(whole(Checkpoint(*newest), 1));
  CHECK_FALSE(newest_checkpoint(folder.path + "/nowhere", nullptr));
}

TEST_CASE("a fault on one rank is thrown by all and leaves nothing behind", "[mpi]") {
  const Folder folder;
  Group& all = test::world().all();
  save(folder.path, "step-1");
  Offer offer(all);
  if (all.rank() == all.size() - 1) offer.pieces.back().rows += 1;
  CHECK_THROWS_WITH(save_checkpoint(all, folder.path, "step-2", offer.pieces, {}),
                    Catch::Contains("vector"));
  const Offer gap(all);  // one rank offers less than it should: no tensor may have a hole
  auto pieces = gap.pieces;
  if (all.rank() == 0) pieces.erase(pieces.begin());
  CHECK_THROWS_WITH(save_checkpoint(all, folder.path, "step-3", pieces, {}),
                    Catch::Contains("matrix"));
  pieces = gap.pieces;
  if (all.rank() == 0) pieces.push_back(pieces.front());
  CHECK_THROWS_AS(save_checkpoint(all, folder.path, "step-4", pieces, {}), Error);
  CHECK_THROWS_AS(save_checkpoint(all, folder.path, "../step-5", gap.pieces, {}), Error);
  CHECK_THROWS_AS(save_checkpoint(all, "/proc/nowhere", "step-6", gap.pieces, {}), Error);
  CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 1);
  CHECK(whole(Checkpoint(folder.path + "/step-1")));
}

TEST_CASE("the middle of a save asks for nobody: it runs in a thread, ranks in any order",
          "[mpi]") {
  const Folder folder;
  Group& all = test::world().all();
  const Offer offer(all, 3);
  SaveJob job(all, folder.path, "step-1");
  job.snapshot(offer.pieces, {{"step", "1"}});
  // One rank after the other: none waits for another in write().
  for (int rank = 0; rank < all.size(); ++rank) {
    if (rank == all.rank()) std::thread([&] { job.write(); }).join();
    all.barrier().wait();
  }
  CHECK(list_checkpoints(folder.path).empty());
  job.commit();
  save(folder.path, "step-2", 3);
  CHECK(whole(Checkpoint(folder.path + "/step-1"), 3));
  for (const auto& entry : fs::directory_iterator(folder.path + "/step-1"))
    CHECK(read_text(entry.path().string()) ==
          read_text(folder.path + "/step-2/" + entry.path().filename().string()));
}

TEST_CASE("faults of writing are told by commit, on all ranks", "[mpi]") {
  const Folder folder;
  Group& all = test::world().all();
  Offer offer(all);
  if (all.rank() == all.size() - 1)
    offer.pieces.back().read = [](int64_t, int64_t, float*) { throw Error("no such rows"); };
  SaveJob job(all, folder.path, "step-1");
  job.snapshot(offer.pieces, {});
  job.write();
  CHECK_THROWS_WITH(job.commit(), Catch::Contains("no such rows"));
  const Offer good(all);
  offer.pieces = good.pieces;
  if (all.rank() == all.size() - 1)
    offer.pieces.back().read = [](int64_t, int64_t rows, float* to) {
      std::fill_n(to, rows, 1.f);
      to[rows - 1] = std::numeric_limits<float>::infinity();
    };
  CHECK_THROWS_AS(save_checkpoint(all, folder.path, "step-2", offer.pieces, {}), UnfitWeights);
  CHECK(fs::is_empty(folder.path));
}

TEST_CASE("retention keeps the newest ones and the multiples", "[checkpoint]") {
  if (test::world().all().size() > 1) return;
  const Folder folder;
  for (int step : {2, 4, 10, 20, 100}) save_step(folder.path, fmt::format("step-{}", step), step);
  fs::create_directories(folder.path + "/.tmp-step-120");
  fs::create_directories(folder.path + "/notes");
  const auto left = [&] {
    std::vector<std::string> names;
    for (const auto& path : list_checkpoints(folder.path))
      names.push_back(fs::path(path).filename().string());
    return names;
  };
  CHECK(left() == std::vector<std::string>{"step-2", "step-4", "step-10", "step-20", "step-100"});
  retain_checkpoints(folder.path, 2, 10);
  CHECK(left() == std::vector<std::string>{"step-10", "step-20", "step-100"});
  CHECK_FALSE(fs::exists(folder.path + "/.tmp-step-120"));
  CHECK(fs::exists(folder.path + "/notes"));
  retain_checkpoints(folder.path, 2, 0);
  CHECK(left() == std::vector<std::string>{"step-20", "step-100"});
  retain_checkpoints(folder.path, 0, 0);
  CHECK(left() == std::vector<std::string>{"step-100"});
}

TEST_CASE("a hostile manifest is refused", "[checkpoint]") {
  if (test::world().all().size() > 1) return;
  const Folder folder;
  save(folder.path, "step-1");
  const std::string path = folder.path + "/step-1";
  const json good = json::parse(read_text(path + "/manifest.json"));
  const auto write = [&](const std::string& text) {  // a manifest whose COMPLETE is right
    std::ofstream(path + "/manifest.json", std::ios::trunc) << text;
    std::ofstream(path + "/COMPLETE", std::ios::trunc)
        << detail::hex(detail::text_hash(text)) << "\n";
  };
  write(good.dump());
  CHECK(whole(Checkpoint(path)));
  const std::string piece = "/tensors/vector/pieces/0";
  const auto big = INT64_MAX;
  const std::vector<std::pair<std::string, json>> attacks{
      {piece + "/file", "../../../etc/passwd"},
      {piece + "/file", "/etc/passwd"},
      {piece + "/file", "COMPLETE"},
      {piece + "/file", "rank-0/../x.safetensors"},
      {piece + "/file", 3},
      {piece + "/file", "rank-00009.safetensors"},
      {piece + "/offset", -4},
      {piece + "/offset", big},
      {piece + "/offset", UINT64_MAX},
      {piece + "/offset", 1.5},
      {piece + "/start", json{-1, 0}},
      {piece + "/start", json{big, 0}},
      {piece + "/start", 0},
      {piece + "/shape", json{big, 1}},
      {piece + "/shape", json{0, 1}},
      {piece + "/shape", json{11, 2}},
      {piece + "/shape", json{10, 1}},
      {piece + "/shape", json{-11, -1}},
      {piece + "/shape", nullptr},
      {piece + "/xxh64", "xyz"},
      {piece + "/xxh64", 1},
      {"/tensors/vector/shape", json{big, big, big}},
      {"/tensors/vector/shape", json{1 << 30, 1 << 30, 1 << 30}},
      {"/tensors/vector/shape", json{12}},
      {"/tensors/vector/shape", json{-11}},
      {"/tensors/vector/shape", "11"},
      {"/tensors/vector/dtype", "F16"},
      {"/tensors/vector/pieces", json::array()},
      {"/tensors/vector/pieces", json::object()},
      {"/tensors", 5},
      {"/tensors", json::array()},
      {"/state", 5},
      {"/state", json{{"a", 1}}},
      {"/format", 2},
      {"/format", "1"}};
  for (const auto& [where, what] : attacks) {
    json bad = good;
    bad[json::json_pointer(where)] = what;
    write(bad.dump());
    INFO(where << " = " << what.dump());
    CHECK_THROWS_AS(open_and_verify(path), Error);
  }
  for (const std::string text : {"", "{", "[]", "null", "{}", "\xff\xfe"}) {
    write(text);
    CHECK_THROWS_AS(open_and_verify(path), Error);
  }
  write(std::string(2'000'000, '['));
  CHECK_THROWS_AS(open_and_verify(path), Error);
  json twice = good;  // the same box twice
  twice["tensors"]["vector"]["pieces"].push_back(twice["tensors"]["vector"]["pieces"][0]);
  write(twice.dump());
  CHECK_THROWS_AS(open_and_verify(path), Error);
  write(good.dump());  // a data file that is a link to elsewhere
  fs::rename(path + "/rank-00000.safetensors", folder.path + "/elsewhere");
  fs::create_symlink(folder.path + "/elsewhere", path + "/rank-00000.safetensors");
  CHECK_THROWS_AS(open_and_verify(path), Error);
}
