// Runs falcon-train as a user does, on a tiny model and a token set made for the test.
#pragma once

#include "core/check.h"
#include "core/file.h"
#include "core/safetensors.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace ft::test {

namespace fs = std::filesystem;

// A folder of its own for each test process, with a token set in it.
inline const std::string& workspace() {
  static const std::string folder = [] {
    const std::string path =
        (fs::temp_directory_path() / fmt::format("ft-train-{}", ::getpid())).string();
    fs::create_directories(path);
    for (int d = 0; d < 40; ++d) {  // documents of many lengths
      std::string text;
      for (int i = 0; i < 20 + 37 * d % 400; ++i) text += static_cast<char>('a' + (i * i + d) % 23);
      write_text(fmt::format("{}/text/{:02}.txt", path, d), text);
    }
    return path;
  }();
  return folder;
}

// Exit code of a command; its output goes to LOG in the workspace.
inline int shell(const std::string& command, const std::string& log) {
  const int status = std::system(fmt::format("{} > {}/{} 2>&1", command, workspace(), log).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

inline std::string binary() {
  const char* path = std::getenv("FT_BINARY");
  FT_CHECK(path, "FT_BINARY must name the falcon-train to test; ctest sets it");
  return path;
}

// The command that trains with these overrides on so many ranks; the run's folder is
// workspace()/name/t.
inline std::string train_command(const std::string& name, int ranks, const std::string& sets) {
  const std::string& w = workspace();
  if (!fs::exists(w + "/set.idx"))
    FT_CHECK(shell(binary() + " tokenize " + w + "/text --out " + w + "/set", "tokenize") == 0,
             "tokenize failed");
  const std::string launcher =
      ranks > 1 ? fmt::format("mpirun --oversubscribe --bind-to none -n {} ", ranks)
                : std::string();
  std::string all = "--set run.directory=" + w + "/" + name;
  if (ranks > 1) all += " --set run.threads=1";  // ranks that share cores wait for each other
  all += fmt::format(" --set data.train.0.path={}/set --set data.train.0.name=set", w);
  for (size_t at = 0; at < sets.size();) {
    const size_t end = std::min(sets.find(' ', at), sets.size());
    all += " --set " + sets.substr(at, end - at);
    at = end + 1;
  }
  return launcher + binary() + " train tests/train/tiny.yaml " + all + " ";
}

// Exit code of a run; its output goes to NAME.log.
inline int train(const std::string& name, int ranks, const std::string& sets,
                 const std::string& rest = "") {
  return shell(train_command(name, ranks, sets) + rest, name + ".log");
}

// All parameters and moments of a run's checkpoint, one after another.
inline std::vector<float> parameters(const std::string& name, int step) {
  const SafetensorsFile file(fmt::format("{}/{}/t/checkpoints/step-{:08}/rank-00000.safetensors",
                                         workspace(), name, step));
  std::vector<float> all;
  for (const auto& [tensor, info] : file.tensors()) {
    if (tensor.rfind("optimizer.", 0) == 0) continue;
    const auto values = file.read_f32(tensor);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace ft::test
