// inspect, --verify, and faults met in mid-run, by way of the program itself.
#include "core/check.h"
#include "data/verify.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

using namespace ft;
using namespace ft::test;

namespace {

struct Output {
  int code;
  std::string text;
};

// Runs falcon-train with these arguments.
Output run(const TempFolder& folder, const std::string& arguments) {
  const char* binary = std::getenv("FT_BINARY");
  FT_CHECK(binary, "FT_BINARY must name the falcon-train to test; ctest sets it");
  const std::string log = folder / "log";
  const int status = std::system(fmt::format("{} {} > {} 2>&1", binary, arguments, log).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read_text(log)};
}

void has(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

// Overwrites bytes of a file in place.
void patch(const std::string& path, int64_t at, const std::string& bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(at);
  file << bytes;
}

}  // namespace

TEST_CASE("inspect tells what a token set is", "[inspect]") {
  const TempFolder folder;
  write_text(folder / "in/a.txt", "one\ttwo\n");
  write_text(folder / "in/b.jsonl", "{\"q\": \"2+2=\", \"text\": \"4\"}\n");
  CHECK(run(folder,
            fmt::format("tokenize {} --out {} --prompt-field q", folder / "in", folder / "set"))
            .code == 0);
  for (const char* end : {"", ".bin", ".idx", ".mask.bin"}) {
    const Output out = run(folder, "inspect --verify " + (folder / "set") + end);
    INFO(end);
    CHECK(out.code == 0);
    has(out.text, "documents 2");
    has(out.text, "tokens    15 (uint16)");
    has(out.text, "tokenizer bytes, vocabulary 257, end of document 256");
    has(out.text, "one\\x09two\\n<end>");
    has(out.text, "2 of 2 documents end with 256, 11 of 15 tokens count in the loss");
  }
  CHECK(run(folder, "inspect " + (folder / "none")).code == 2);
  CHECK(run(folder, "inspect " + (folder / "in")).code == 2);
  CHECK(run(folder, "inspect --verify").code == 2);
  CHECK(run(folder, "inspect --verifi " + (folder / "set")).code == 2);
}

TEST_CASE("inspect --verify finds the first fault", "[inspect]") {
  const TempFolder folder;
  const std::string set = folder / "set";
  const auto fault = [&](const std::string& part) {
    const Output out = run(folder, "inspect --verify " + set);
    CHECK(out.code == 1);
    has(out.text, part);
    for (const char* end : {".bin", ".idx", ".json", ".mask.bin"})
      std::filesystem::remove(set + end);
    write_set(set, {{1, 2, 3}, {4, 5}, {6, 7, 8}}, 300);
    write_text(set + ".json", R"({"tokenizer": "bytes", "vocab_size": 100})");
  };
  write_set(set, {{1}}, 300);
  patch(set + ".idx", 0, "X");
  fault("set.idx: at byte 0: does not start with MMIDIDX");
  patch(set + ".bin", 6, std::string("\x64\0\xff\xff", 4));
  fault("set.bin: document 1, token 0: id 100 is outside the vocabulary of 100");
  patch(set + ".idx", 38, std::string("\1\0\0\0", 4));
  fault("set.idx: its documents have 7 tokens");
  patch(set + ".idx", 54, std::string("\x07", 1));
  fault("document 1, sequence 1");
  std::filesystem::resize_file(set + ".idx", 60);
  fault("set.idx: 3 sequences and 3 documents do not fit 60 bytes");
  std::filesystem::resize_file(set + ".bin", 14);
  fault("set.bin, which has 14 bytes");
  write_text(set + ".mask.bin", "1234567");
  fault("set.mask.bin: 7 bytes for the 8 tokens");
  write_text(set + ".json", R"({"documents": 4, "tokens": 8})");
  fault("set.json: names 4 documents");
  std::filesystem::remove(set + ".bin");
  fault("set.bin: is missing");
  std::filesystem::remove(set + ".idx");
  fault("set.idx: is missing");
  CHECK(run(folder, "inspect --verify " + set).code == 0);
}

TEST_CASE("a set that may not be read says so", "[inspect]") {
  const TempFolder folder;
  write_set(folder / "set", {{1, 2, 3}});
  const bool root = ::geteuid() == 0;  // root may read anything
  for (const char* end : {".bin", ".idx"}) {
    const std::string path = (folder / "set") + end;
    std::filesystem::permissions(path, std::filesystem::perms::none);
    std::string text;
    if (root) REQUIRE(::seteuid(65534) == 0);
    for (const Access access : {Access::Map, Access::Read}) {
      try {
        const TokenSet set(folder / "set", access);
      } catch (const ConfigError& e) {
        text = e.what();
      }
      has(text, path + ": cannot be opened: Permission denied");
    }
    if (root) REQUIRE(::seteuid(0) == 0);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
}

// The set is cut while `train` has it mapped: a message, not a signal.
TEST_CASE("a mapped file that is cut short ends the run with a message", "[inspect]") {
  const TempFolder folder;
  Document d(200000);
  for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<int32_t>(i % 250);
  write_set(folder / "set", {d}, 257);
  const std::string sets = fmt::format(
      "--set data.train.0.path={} --set run.directory={} --set train.tokens=100M "
      "--set data.sequence_length=64",
      folder / "set", folder / "runs");
  const char* binary = std::getenv("FT_BINARY");
  REQUIRE(binary);
  const std::string metrics = folder / "runs/t/metrics.jsonl";
  // Cuts the file once the first steps are done.
  const std::string cut = fmt::format(
      "timeout 100 {} train tests/train/tiny.yaml {} > {} 2>&1 & "
      "for i in $(seq 400); do test -s {} && break; sleep 0.2; done; truncate -s 4096 {}; wait $!",
      binary, sets, folder / "log", metrics, folder / "set.bin");
  const int status = std::system(cut.c_str());
  const std::string log = read_text(folder / "log");
  INFO(log);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  has(log, "set.bin: cannot be read at byte ");
  has(log, "the file became shorter while it was in use");
}
