// Event files, read back by a decoder of their own; tests/report/read_events.py asks TensorBoard's.
#include "tests/catch.h"

#include "app/run/tensorboard.h"
#include "core/check.h"
#include "core/file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>

using namespace ft;
namespace fs = std::filesystem;

namespace {

template <class T>
T take(std::string_view& text) {
  T value;
  REQUIRE(text.size() >= sizeof value);
  std::memcpy(&value, text.data(), sizeof value);
  text.remove_prefix(sizeof value);
  return value;
}

uint64_t varint(std::string_view& text) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<uint8_t>(take<char>(text));
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

// The fields of a message by number; numbers as their bytes, texts as they are.
std::multimap<int, std::string> fields(std::string_view text) {
  std::multimap<int, std::string> all;
  while (!text.empty()) {
    const uint64_t key = varint(text);
    size_t size = key % 8 == 1 ? 8 : 4;
    if (key % 8 == 0) {
      const uint64_t value = varint(text);
      all.emplace(key / 8, std::string(reinterpret_cast<const char*>(&value), sizeof value));
      continue;
    }
    if (key % 8 == 2) size = varint(text);
    REQUIRE(size <= text.size());
    all.emplace(key / 8, std::string(text.substr(0, size)));
    text.remove_prefix(size);
  }
  return all;
}

template <class T>
T as(const std::string& bytes) {
  T value;
  REQUIRE(bytes.size() == sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t crc = masked - 0xa282ead8u;
  return crc >> 17 | crc << 15;
}

std::vector<std::string> records(const std::string& path) {
  const std::string file = read_text(path);
  std::string_view text = file;
  std::vector<std::string> all;
  while (!text.empty()) {
    const std::string_view head = text.substr(0, 8);
    const auto size = take<uint64_t>(text);
    CHECK(unmasked(take<uint32_t>(text)) == crc32c(head));
    all.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
    CHECK(unmasked(take<uint32_t>(text)) == crc32c(all.back()));
  }
  return all;
}

std::string fresh_folder(const char* name) {
  const fs::path path = fs::temp_directory_path() / fmt::format("ft-{}-{}", name, ::getpid());
  fs::remove_all(path);
  return path.string();
}

}  // namespace

TEST_CASE("crc32c has the value of RFC 3720") {
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(crc32c("") == 0);
}

TEST_CASE("an event file holds a version, a start and the scalars") {
  const std::string folder = fresh_folder("events");
  std::string path;
  {
    EventFile file(folder, 5);
    path = file.path();
    file.add(5, {{"train/loss", 2.5}, {std::string(300, 'x'), -1e30}});
    file.add(int64_t{1} << 40, {});
  }
  const auto all = records(path);
  REQUIRE(all.size() == 4);
  CHECK(fields(all[0]).find(3)->second == "brain.Event:2");
  CHECK(as<int64_t>(fields(all[1]).find(2)->second) == 5);
  CHECK(as<int64_t>(fields(fields(all[1]).find(7)->second).find(1)->second) == 1);  // START
  const auto summary = fields(fields(all[2]).find(5)->second);
  REQUIRE(summary.count(1) == 2);
  const auto first = fields(summary.lower_bound(1)->second),
             second = fields(std::next(summary.lower_bound(1))->second);
  CHECK(first.find(1)->second == "train/loss");
  CHECK(as<float>(first.find(2)->second) == 2.5f);
  CHECK(second.find(1)->second == std::string(300, 'x'));
  CHECK(as<float>(second.find(2)->second) == -1e30f);
  CHECK(as<int64_t>(fields(all[3]).find(2)->second) == int64_t{1} << 40);
  CHECK(as<double>(fields(all[3]).find(1)->second) > 1.6e9);  // wall time, seconds
  const EventFile later(folder, 9);
  CHECK(later.path() > path);  // also within the same second
}

TEST_CASE("an event file keeps every record through a disk that is full for a while") {
  const std::string folder = fresh_folder("events-full");
  fs::create_directories(folder);
  EventFile file(folder, 1);
  const auto add = [&](int64_t from, int64_t to) {
    for (int64_t step = from; step < to; ++step) file.add(step, {{"train/loss", 2.5}});
  };
  add(0, 100);
  const auto before = ::signal(SIGXFSZ, SIG_IGN);  // a file may grow no more, as on a full disk
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  rlimit low = limit;
  low.rlim_cur = fs::file_size(file.path()) + 50;  // one record and a half
  ::setrlimit(RLIMIT_FSIZE, &low);
  add(100, 200);
  ::setrlimit(RLIMIT_FSIZE, &limit);
  ::signal(SIGXFSZ, before);
  CHECK(records(file.path()).size() <= 2 + 101);  // whole ones
  add(200, 300);
  const auto all = records(file.path());
  REQUIRE(all.size() == 2 + 300);
  for (size_t i = 0; i < 300; ++i)
    CHECK(as<int64_t>(fields(all[i + 2]).find(2)->second) == static_cast<int64_t>(i));
}

TEST_CASE("TensorBoard's own library reads the events of a resumed run", "[.tensorboard]") {
  const std::string folder = fresh_folder("tensorboard");
  {
    EventFile file(folder, 1);
    for (int64_t step = 1; step <= 8; ++step)
      file.add(step, {{"train/loss", 10.0 - static_cast<double>(step)}});
    file.add(4, {{"validation/web <1>", 3.5}});
  }
  EventFile file(folder, 6);  // steps 6, 7 and 8 are done again
  for (int64_t step = 6; step <= 7; ++step) file.add(step, {{"train/loss", 100.0}});
  const char* python = std::getenv("FT_PYTHON");
  const int status = std::system(fmt::format("{} tests/report/read_events.py {} > {}/read.txt",
                                             python ? python : "python3", folder, folder)
                                     .c_str());
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 0);
  CHECK(read_text(folder + "/read.txt") ==
        "train/loss 1:9 2:8 3:7 4:6 5:5 6:100 7:100\nvalidation/web <1> 4:3.5\n");
}
