#include "core/safetensors.h"

#include "core/file.h"
#include "tests/catch.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

namespace fs = std::filesystem;
using namespace ft;

namespace {

struct Folder {
  std::string path =
      (fs::temp_directory_path() / ("ft-safetensors-" + std::to_string(::getpid()))).string();
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name) const { return path + "/" + name; }
};

std::string with_header(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

}  // namespace

TEST_CASE("safetensors: what is written reads back", "[safetensors]") {
  const Folder folder;
  const std::vector<float> a = {1, -2.5f, 3e-9f, INFINITY, 0, 7};
  const std::vector<uint16_t> half = {0x3c00, 0xc000, 0x0001, 0x7c00}, brain = {0x3f80, 0xc000};
  const std::vector<int32_t> ids = {-1, 0, 2147483647};
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path,
                    {{"a", "F32", {2, 3}, a.data(), 24},
                     {"h", "F16", {4}, half.data(), 8},
                     {"b", "BF16", {2}, brain.data(), 4},
                     {"ids", "I32", {3}, ids.data(), 12},
                     {"none", "F32", {0, 4}, nullptr, 0}},
                    {{"format", "pt"}});
  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == 5);
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.info("a").shape == std::vector<int64_t>{2, 3});
  CHECK(file.info("a").offset % 64 == 0);
  CHECK(file.read_f32("a") == a);
  CHECK(file.read_f32("h") == std::vector<float>{1, -2, std::ldexp(1.0f, -24), INFINITY});
  CHECK(file.read_f32("b") == std::vector<float>{1, -2});
  CHECK(file.read_i64("ids") == std::vector<int64_t>{-1, 0, 2147483647});
  CHECK(file.read_f32("none").empty());
  float two[2];
  file.read_f32("a", 1, 2, two);
  CHECK(two[0] == -2.5f);
  CHECK_THROWS_AS(file.read_f32("a", 5, 2, two), Error);
  CHECK_THROWS_AS(file.info("absent"), ConfigError);
  CHECK_THROWS_AS(file.read_f32("ids"), ConfigError);
  CHECK_THROWS_AS(file.read_i64("a"), ConfigError);
}

TEST_CASE("safetensors: metadata may be null", "[safetensors]") {
  const Folder folder;
  const std::string path = folder.file("null.safetensors");
  write_text(
      path,
      with_header(R"({"__metadata__":null,"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                  std::string(8, '\0')));
  const SafetensorsFile file(path);
  CHECK(file.metadata().empty());
  CHECK(file.tensors().size() == 1);
}

TEST_CASE("safetensors: a damaged header is refused", "[safetensors]") {
  const Folder folder;
  const std::string t = R"("dtype":"F32","shape":[2],"data_offsets":)", eight(8, '\0');
  const std::vector<std::string> bad = {
      "",
      "1234567",
      std::string(8, '\xff'),
      with_header("{", ""),
      with_header("[]", ""),
      with_header(R"({"a":{)" + t + "[0,8]}}", "1234"),  // cut short
      with_header(R"({"a":{)" + t + "[8,0]}}", eight),   // backwards
      with_header(R"({"a":{)" + t + "[0,7]}}", eight),   // size and shape differ
      with_header(R"({"a":{)" + t + "[-8,0]}}", eight),
      with_header(R"({"a":{)" + t + "[0.0,8.0]}}", eight),
      with_header(R"({"a":{)" + t + R"([0,8]},"b":{)" + t + "[4,12]}}", eight + "1234"),  // overlap
      with_header(R"({"a":{)" + t + R"([0,8]},"b":{)" + t + "[12,20]}}",
                  eight + eight + "1234"),                                      // gap
      with_header(R"({"a":{)" + t + R"([0,8]},"a":{)" + t + "[0,8]}}", eight),  // the same name
      with_header(R"({"a":{)" + t + "[0,8]}}", eight + "x"),                    // trailing bytes
      with_header(R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", eight),
      with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",
                  eight),
      with_header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", eight),
      with_header(R"({"a":{"dtype":"F32"}})", eight),
      with_header(R"({"a":7})", eight),
      with_header(R"({"__metadata__":{"x":1}})", "")};
  const std::string path = folder.file("bad.safetensors");
  for (const std::string& bytes : bad) {
    INFO(bytes.substr(0, 160));
    write_text(path, bytes);
    CHECK_THROWS_AS(SafetensorsFile(path), ConfigError);
  }
  CHECK_THROWS_AS(SafetensorsFile(folder.file("absent")), ConfigError);
}

TEST_CASE("safetensors: random damage is refused or harmless", "[safetensors]") {
  const Folder folder;
  const std::vector<float> a(16, 1.0f);
  std::string whole = safetensors_header({{"a", "F32", {16}, a.data(), 64}}, {{"k", "v"}}, nullptr);
  whole.append(reinterpret_cast<const char*>(a.data()), 64);
  const std::string path = folder.file("m.safetensors");
  std::mt19937 random(7);
  int opened = 0, refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string bytes = whole;
    for (int flips = 0; flips < 1 + i % 3; ++flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    if (i % 5 == 0) bytes.resize(random() % bytes.size());
    fs::remove(path);
    std::FILE* f = std::fopen(path.c_str(), "wb");  // no fsync: hundreds of files
    REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size());
    std::fclose(f);
    try {
      const SafetensorsFile file(path);
      for (const auto& [name, info] : file.tensors())
        if (info.dtype == "F32")
          CHECK(file.read_f32(name).size() == static_cast<size_t>(info.size()));
      ++opened;
    } catch (const ConfigError&) {
      ++refused;
    }
  }
  CHECK(opened + refused == 500);
  CHECK(refused > 100);
}

TEST_CASE("safetensors: folders with shards", "[safetensors]") {
  const Folder folder;
  const float one = 1, two = 2;
  CHECK_THROWS_AS(SafetensorsFolder(folder.path), ConfigError);
  write_safetensors(folder.file("s1.safetensors"), {{"a", "F32", {1}, &one, 4}});
  write_safetensors(folder.file("s2.safetensors"), {{"b", "F32", {1}, &two, 4}});
  const std::string index = folder.file("model.safetensors.index.json");
  write_text(index, R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})");
  const SafetensorsFolder both(folder.path);
  CHECK(both.names() == std::vector<std::string>{"a", "b"});
  CHECK(both.file_of("b").read_f32("b") == std::vector<float>{2});
  CHECK_THROWS_AS(both.file_of("c"), ConfigError);
  for (const char* bad :
       {R"({"weight_map":{"a":"../s1.safetensors"}})", R"({"weight_map":{"b":"s1.safetensors"}})",
        R"({"weight_map":{"a":3}})", "{}", "nonsense"}) {
    write_text(index, bad);
    CHECK_THROWS_AS(SafetensorsFolder(folder.path), ConfigError);
  }
}

TEST_CASE("files appear whole or not at all", "[file]") {
  const Folder folder;
  const std::string path = folder.file("x");
  const auto entries = [&] {
    return std::distance(fs::directory_iterator(folder.path), fs::directory_iterator{});
  };
  {
    AtomicFile file(path);
    file.write("half");
    CHECK_FALSE(fs::exists(path));
    CHECK(file.position() == 4);
  }
  CHECK(entries() == 0);
  write_text(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    CHECK(read_text(path) == "old");
    file.commit();
  }
  CHECK(read_text(path) == "new");
  CHECK(entries() == 1);
  CHECK_THROWS_WITH(AtomicFile(folder.file("x/y")), Catch::Contains("x/y"));  // x is a file
  CHECK_THROWS_WITH(read_text(folder.file("nothing")), Catch::Contains("nothing"));
  CHECK_THROWS_AS(write_text(folder.path + "/.", "x"), Error);
  if (::geteuid() != 0) {  // root may write anywhere
    fs::permissions(folder.path, fs::perms::owner_read | fs::perms::owner_exec);
    CHECK_THROWS_WITH(AtomicFile(folder.file("y")), Catch::Contains("/y"));
    fs::permissions(folder.path, fs::perms::owner_all);
  }
  write_text(path, "");
  CHECK(MappedFile(path).data() == nullptr);
}
