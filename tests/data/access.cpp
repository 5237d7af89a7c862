// Reading by mapping and by pread: the same batches, few descriptors, clear faults.
#include "core/check.h"
#include "data/loader.h"
#include "tests/catch.h"
#include "tests/data/sets.h"

#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <thread>

using namespace ft;
using namespace ft::test;

namespace {

constexpr int64_t kVocab = 1000000;

DataConfig config_of(const std::vector<DataSource>& sources, const std::string& read) {
  DataConfig config;
  config.sequence_length = 13;
  config.train = sources;
  config.read = read;
  return config;
}

void check_equal(const StepBatches& a, const StepBatches& b) {
  REQUIRE(a.micro.size() == b.micro.size());
  for (size_t m = 0; m < a.micro.size(); ++m) {
    REQUIRE(a.micro[m].ids == b.micro[m].ids);
    REQUIRE(a.micro[m].labels == b.micro[m].labels);
    REQUIRE(a.micro[m].docs == b.micro[m].docs);
    REQUIRE(a.micro[m].sources == b.micro[m].sources);
    REQUIRE(a.micro[m].valid == b.micro[m].valid);
  }
}

int64_t open_descriptors() {
  int64_t n = 0;
  for (const auto& one : std::filesystem::directory_iterator("/proc/self/fd"))
    n += !one.path().empty();
  return n;
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

}  // namespace

TEST_CASE("pread gives the batches that mmap gives", "[access]") {
  const TempFolder folder;
  write_set(folder / "a", numbered_documents(50, 30, 1));
  write_set(folder / "b", numbered_documents(30, 30, 20000), 50000);  // uint16
  const std::vector<DataSource> sources{{"a", folder / "a", 2}, {"b", folder / "b", 1}};
  Loader mapped(config_of(sources, "mmap"), kVocab, 3, 1, 2);
  Loader read(config_of(sources, "pread"), kVocab, 3, 1, 2);
  for (int step = 0; step < 15; ++step) check_equal(mapped.next(6, 2), read.next(6, 2));
  CHECK(mapped.state() == read.state());
  CHECK_THROWS_AS(Loader(config_of(sources, "fast"), kVocab, 3, 0, 1), ConfigError);
}

TEST_CASE("thousands of sources need few descriptors", "[access]") {
  const TempFolder folder;
  std::vector<DataSource> sources;
  for (int32_t s = 0; s < 200; ++s) {
    const std::string name = fmt::format("s{}", s);
    write_set(folder / name, {{3 * s + 1, 3 * s + 2, 3 * s + 3}}, kVocab);
    sources.push_back({name, folder / name});
  }
  for (const char* way : {"mmap", "pread"}) {
    const int64_t before = open_descriptors();
    rlimit limit{}, old{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    limit = old;
    limit.rlim_cur = static_cast<rlim_t>(before + 100);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    {
      Loader loader(config_of(sources, way), kVocab, 3, 0, 1);
      std::vector<int64_t> seen(sources.size());
      for (int step = 0; step < 3; ++step) {  // 200 samples a step: one of each source
        const StepBatches s = loader.next(200, 70);
        for (const Batch& b : s.micro)
          for (int64_t r = 0; r < b.sequences; ++r) {
            const auto source = static_cast<size_t>(b.sources[static_cast<size_t>(r)]);
            const int32_t id = b.ids[static_cast<size_t>(r * b.length)];
            REQUIRE(static_cast<size_t>((id - 1) / 3) == source);  // the row is that source's
            REQUIRE(loader.source_names()[source] == fmt::format("s{}", source));
            ++seen[source];
            REQUIRE(s.per_source.count(fmt::format("s{}", source)) == 1);
            REQUIRE(s.epochs.count(fmt::format("s{}", source)) == 1);
          }
      }
      CHECK(std::all_of(seen.begin(), seen.end(), [](int64_t n) { return n == 3; }));
      // 64 are kept; the thread that prepares the next step may just open one more.
      CHECK(open_descriptors() <= before + 65);
      CHECK(loader.next(5, 5).epochs.size() == 5);  // of the sources that gave a sample
      CHECK(loader.description().find("and 180 more; all 200 sources: 200 documents, 600 tokens") !=
            std::string::npos);
    }
    // The loader does not wait for its thread, which may be in the middle of a step.
    for (int i = 0; i < 1000 && open_descriptors() != before; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(open_descriptors() == before);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
  }
}

TEST_CASE("a file that is cut or replaced while it is read is named", "[access]") {
  const TempFolder folder;
  Document d(4000);
  for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<int32_t>(i);
  const std::string bin = folder / "a.bin";
  write_set(folder / "a", {d});
  {
    const TokenSet set(folder / "a", Access::Read);
    Document out(10);
    set.read(0, 0, 10, out.data());
    std::filesystem::resize_file(bin, 8000);
    set.read(0, 1990, 10, out.data());
    const std::string text = refusal([&] { set.read(0, 1995, 10, out.data()); });
    INFO(text);
    CHECK(text.find("a.bin: ends at byte 8000 while it is in use; it had 16000 bytes") !=
          std::string::npos);
  }
  write_set(folder / "a", {d});
  {
    const TokenSet set(folder / "a", Access::Read);  // not yet opened for reading
    write_set(folder / "a", {Document(d.begin(), d.begin() + 100)});
    Document out(10);
    const std::string text = refusal([&] { set.read(0, 0, 10, out.data()); });
    INFO(text);
    CHECK(text.find(
              "a.bin: was replaced or changed its length (16000 bytes at the start, 400 now)") !=
          std::string::npos);
  }
}
