// Runs falcon-train as a user does, on a tiny model and a token set made for the test.
#pragma once

#include "core/check.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "parallel/checkpoint/checkpoint.h"
#include "tests/read_box.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace ft::test {

namespace fs = std::filesystem;

// A folder of its own for each test process, with a text in it; removed at the end.
inline const std::string& workspace() {
  struct Folder {
    std::string path =
        (fs::temp_directory_path() / fmt::format("ft-train-{}", ::getpid())).string();
    Folder() {
      fs::create_directories(path + "/text");
      for (int d = 0; d < 40; ++d) {  // documents of many lengths
        std::string text;
        for (int i = 0; i < 20 + 37 * d % 400; ++i)
          text += static_cast<char>('a' + (i * i + d) % 23);
        write_text(fmt::format("{}/text/{:02}.txt", path, d), text);
      }
    }
    ~Folder() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  };
  static const Folder folder;
  return folder.path;
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

// The command that trains CONFIG on so many ranks; the run's folder is workspace()/name/t.
inline std::string config_command(const std::string& name, int ranks, const std::string& config,
                                  const std::string& options) {
  const std::string launcher =
      ranks > 1 ? fmt::format("mpirun --oversubscribe --bind-to none -n {} ", ranks)
                : std::string();
  // Ranks that share cores wait for each other: one thread each.
  return fmt::format("{}{} train {} --set run.directory={}/{}{} {} ", launcher, binary(), config,
                     workspace(), name, ranks > 1 ? " --set run.threads=1" : "", options);
}

// Exit code of a run; its output goes to workspace()/NAME.log.
inline int run_config(const std::string& name, int ranks, const std::string& config,
                      const std::string& options = "") {
  return shell(config_command(name, ranks, config, options), name + ".log");
}

// The prefix of the workspace's text as tokens.
inline std::string make_set() {
  const std::string set = workspace() + "/set";
  if (!fs::exists(set + ".idx"))
    FT_CHECK(shell(binary() + " tokenize " + workspace() + "/text --out " + set, "tokenize") == 0,
             "tokenize failed");
  return set;
}

// The command that trains the tiny model with these settings ("a.b=1 c.d=2") over tiny.yaml.
inline std::string train_command(const std::string& name, int ranks, const std::string& sets) {
  std::string options =
      fmt::format("--set data.train.0.path={} --set data.train.0.name=set", make_set());
  for (size_t at = 0; at < sets.size();) {
    const size_t end = std::min(sets.find(' ', at), sets.size());
    options += " --set " + sets.substr(at, end - at);
    at = end + 1;
  }
  return config_command(name, ranks, "tests/train/tiny.yaml", options);
}

// Exit code of such a run; `rest` goes behind the command.
inline int train(const std::string& name, int ranks, const std::string& sets,
                 const std::string& rest = "") {
  return shell(train_command(name, ranks, sets) + rest, name + ".log");
}

inline std::string checkpoint_path(const std::string& name, int64_t step) {
  return fmt::format("{}/{}/t/checkpoints/step-{:08}", workspace(), name, step);
}

inline std::vector<float> read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const auto shape = checkpoint.shape(name);
  int64_t cols = 1;
  for (size_t i = 1; i < shape.size(); ++i) cols *= shape[i];
  std::vector<float> values(static_cast<size_t>(shape[0] * cols));
  read_box(checkpoint, name, {0, 0, shape[0], cols}, values.data());
  return values;
}

// What a run's checkpoint holds, by name: weights and moments.
using Tensors = std::map<std::string, std::vector<float>>;
inline Tensors tensors(const std::string& name, int64_t step) {
  const Checkpoint checkpoint(checkpoint_path(name, step));
  Tensors all;
  for (const std::string& tensor : checkpoint.names())
    all[tensor] = read_tensor(checkpoint, tensor);
  return all;
}

}  // namespace ft::test
