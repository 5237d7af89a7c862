// How fast data come; hidden: run with [.bench]. Prints a line for each figure.
#include "app/commands/tokenize.h"
#include "data/loader.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>

using namespace ft;
using namespace ft::test;

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return of(use.ru_utime) + of(use.ru_stime);
}

// A value in kB of /proc/self/status.
int64_t status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (word == key + ":") {
      int64_t value = 0;
      file >> value;
      return value;
    }
  return 0;
}

}  // namespace

TEST_CASE("tokens a second of the loader", "[.bench]") {
  const TempFolder folder;
  constexpr int64_t kTokens = 100'000'000, kLength = 4096, kBatch = 64;
  for (const int64_t mean : {100, 500, 2000}) {
    TokenWriter writer(folder / "set", 60000);
    std::mt19937 random(1);
    std::exponential_distribution<double> length(1.0 / static_cast<double>(mean));
    std::vector<uint16_t> tokens(size_t{1} << 16);
    for (auto& t : tokens) t = static_cast<uint16_t>(random() % 60000);
    for (int64_t n = 0; n < kTokens;) {
      const auto size = std::min<int64_t>(1 + static_cast<int64_t>(length(random)), 1 << 16);
      writer.add(tokens.data(), size);
      writer.end_sequence(), writer.end_document();
      n += size;
    }
    writer.finish();
    for (const char* read : {"mmap", "pread"}) {
      DataConfig config;
      config.sequence_length = kLength;
      config.train = {{"a", folder / "set"}};
      config.read = read;
      Loader loader(config, 60000, 1, 0, 1);
      loader.next(kBatch, 8);
      double best = 0;
      for (int round = 0; round < 5; ++round) {
        const double cpu = cpu_seconds();
        int64_t n = 0;
        while (n < 20'000'000) n += loader.next(kBatch, 8).tokens;
        best = std::max(best, static_cast<double>(n) / (cpu_seconds() - cpu));
      }
      std::printf("loader, %s, documents of %lld tokens: %.0f M tokens per CPU second\n", read,
                  static_cast<long long>(mean), best / 1e6);
    }
  }
}

TEST_CASE("time and memory of opening a large set", "[.bench]") {
  const TempFolder folder;
  constexpr int64_t kDocuments = 10'000'000, kEach = 100;
  write_set(folder / "set", {}, 60000);
  {  // 2 GB of tokens as a hole, an index of 200 MB
    std::filesystem::resize_file(folder / "set.bin", kDocuments * kEach * 2);
    std::ofstream idx(folder / "set.idx", std::ios::binary | std::ios::in | std::ios::ate);
    idx.seekp(18);
    const auto put = [&](auto v) { idx.write(reinterpret_cast<const char*>(&v), sizeof v); };
    put(kDocuments), put(kDocuments + 1);
    for (int64_t d = 0; d < kDocuments; ++d) put(static_cast<int32_t>(kEach));
    for (int64_t d = 0; d < kDocuments; ++d) put(d * kEach * 2);
    for (int64_t d = 0; d <= kDocuments; ++d) put(d);
  }
  DataConfig config;
  config.sequence_length = 4096;
  config.train = {{"a", folder / "set"}};
  const int64_t anonymous = status("RssAnon"), file = status("RssFile");
  const double begin = seconds();
  Loader loader(config, 60000, 1, 0, 1);
  const double opened = seconds();
  loader.next(64, 8);
  std::printf(
      "opening 1e9 tokens in 1e7 documents: %.4f s; the first step of 64 x 4096: %.4f s; memory of "
      "the process +%.1f MB, mapped pages touched %.1f MB\n",
      opened - begin, seconds() - opened, static_cast<double>(status("RssAnon") - anonymous) / 1e3,
      static_cast<double>(status("RssFile") - file) / 1e3);
  CHECK(opened - begin < 1);
}
