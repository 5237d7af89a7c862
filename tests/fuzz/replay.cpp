// Every input that fuzzing kept, fed again to its reader; any compiler, no fuzzer needed.
#include "core/file.h"
#include "tests/catch.h"
#include "tests/fuzz/targets.h"

#include <filesystem>
#include <map>

using namespace ft;
namespace fs = std::filesystem;

TEST_CASE("readers: inputs that fuzzing kept are read or refused") {
  using Target = void (*)(const uint8_t*, size_t);
  const std::map<std::string, Target> targets = {{"idx", fuzz::idx},
                                                 {"yaml", fuzz::yaml},
                                                 {"hf_config", fuzz::hf_config},
                                                 {"safetensors", fuzz::safetensors},
                                                 {"manifest", fuzz::manifest}};
  for (const auto& [name, target] : targets) {
    int64_t inputs = 0;
    for (const auto& entry : fs::directory_iterator("tests/fuzz/corpus/" + name)) {
      INFO(entry.path().string());
      const std::string bytes = read_text(entry.path().string());
      CHECK_NOTHROW(target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
      ++inputs;
    }
    CHECK(inputs > 0);
  }
}
