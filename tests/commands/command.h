// Runs the commands as a user does: exit code, and what they printed.
#pragma once

#include "tests/train/run.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace ft::test {

struct Ran {
  int code;
  std::string out, err;
};

// falcon-train with these arguments (as a shell reads them), on so many ranks.
inline Ran command(const std::string& arguments, int ranks = 1) {
  const std::string& w = workspace();
  const std::string launcher =
      ranks > 1 ? fmt::format("mpirun --oversubscribe --bind-to none -n {} ", ranks)
                : std::string();
  const int code =
      shell(fmt::format("{{ {}{} {} 2> {}/err ; }}", launcher, binary(), arguments, w), "out");
  return {code, read_text(w + "/out"), read_text(w + "/err")};
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline const std::string golden = "tests/golden/";

// A file for probe: one row.
inline std::string tokens_file(const std::vector<int64_t>& ids) {
  const std::string path = workspace() + "/tokens.safetensors";
  const auto n = static_cast<int64_t>(ids.size());
  write_safetensors(path, {{"input_ids", "I64", {1, n}, ids.data(), n * 8}});
  return path;
}

// Logits [T, vocabulary] of probe on one row.
inline std::vector<float> probe_logits(const std::string& model, const std::vector<int64_t>& ids,
                                       const std::string& more = "") {
  const std::string out = workspace() + "/logits.safetensors";
  const Ran ran =
      command("probe " + model + " --tokens " + tokens_file(ids) + " --out " + out + " " + more);
  FT_CHECK(ran.code == 0, "probe failed: {}", ran.err);
  return SafetensorsFile(out).read_f32("logits");
}

// The folder of a run of twelve steps on bytes.
inline const std::string& byte_run() {
  static const std::string folder = [] {
    FT_CHECK(train("bytes", 1, "") == 0, "training failed: {}",
             read_text(workspace() + "/bytes.log"));
    return workspace() + "/bytes/t";
  }();
  return folder;
}

// A copy of a golden model that a test may spoil.
inline std::string copy_of(const std::string& name) {
  const std::string to = workspace() + "/copy-of-" + name;
  fs::remove_all(to);
  fs::copy(golden + name, to);
  return to;
}

}  // namespace ft::test
