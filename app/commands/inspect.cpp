// inspect: what is this path?
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/commands/inspect_parts.h"
#include "core/check.h"
#include "data/sources.h"

#include <cstdio>
#include <filesystem>
#include <memory>

namespace ft {

namespace fs = std::filesystem;

namespace {

struct InspectOptions {
  std::string path;
  std::string tokenizer;  // to show tokens as text; empty: the one that the set names
  bool verify = false;
};

// The prefix of the token set that a path belongs to; empty where it belongs to none.
std::string token_prefix(const std::string& path) {
  if (fs::exists(path + ".idx") || fs::exists(path + ".bin")) return path;
  for (const char* end : {".idx", ".mask.bin", ".bin"})
    if (path.ends_with(end) && fs::is_regular_file(path))
      return path.substr(0, path.size() - std::string(end).size());
  return "";
}

bool show(const std::string& text, const std::string& tokenizer, bool verify) {
  const fs::path path(text);
  if (const std::string prefix = token_prefix(text); !prefix.empty()) {
    inspect_tokens(prefix, tokenizer, verify);
  } else if (path.extension() == ".safetensors" && fs::is_regular_file(path)) {
    inspect_safetensors(text, verify);
  } else if (fs::exists(path / "manifest.json") || fs::exists(path / "COMPLETE")) {
    inspect_checkpoint(text, verify);
  } else if (fs::is_directory(path / "checkpoints") || fs::exists(path / "metrics.jsonl")) {
    inspect_run(text, verify);
  } else if (fs::exists(path / "config.json") || fs::exists(path / "model.safetensors") ||
             fs::exists(path / "model.safetensors.index.json")) {
    inspect_folder(text, verify);
  } else if (fs::is_directory(path)) {
    const auto sets = token_sets_below(text);
    for (const std::string& one : sets) inspect_tokens(one, tokenizer, verify);
    return !sets.empty();
  } else {
    return false;
  }
  return true;
}

int inspect(const InspectOptions& o) {
  std::string path = o.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  FT_CHECK_CONFIG(fs::exists(path) || !token_prefix(path).empty(),
                  "{}: there is no such file or folder, nor a token set {}.idx", o.path, path);
  bool known = false;
  try {
    known = show(path, o.tokenizer, o.verify);
  } catch (const ConfigError& fault) {
    std::fflush(stdout);        // what was found comes before what is wrong
    throw Error(fault.what());  // the path was right: what it holds is not
  }
  FT_CHECK_CONFIG(known,
                  "{}: is neither a token set (PATH.idx), a safetensors file, a checkpoint, a run, "
                  "a Hugging Face folder nor a folder of token sets",
                  o.path);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  const auto o = std::make_shared<InspectOptions>();
  auto* c =
      app.add_subcommand("inspect", "What is this checkpoint, token set, safetensors file or run");
  c->footer("Example: falcon-train inspect runs/quickstart/checkpoints/step-00000100 --verify");
  c->add_option("PATH", o->path, "File, folder or prefix")->required();
  c->add_flag("--verify", o->verify, "Read every byte and check it");
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer.json, its folder, or bytes, to show a token set as text. Default: the "
                "one that the set names")
      ->type_name("FILE");
  c->callback([o, &run] { run = alone([o] { return inspect(*o); }); });
}

}  // namespace ft
