#include "app/commands/outputs.h"

#include "core/check.h"
#include "data/file_id.h"

#include <algorithm>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

// What a set or a folder is made of; numbers and pages that a command wrote there may go.
constexpr const char* kOfSets[] = {".bin", ".idx", ".json", ".mask.bin"};
constexpr const char* kOfFolders[] = {
    "config.json",    "config.yaml",           "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "text.json",
    "events.jsonl",   "metrics.jsonl",         "log.txt",
    "yardstick.json", "manifest.json"};

bool is_weights(const std::string& name) {
  return (name.starts_with("model") || name.starts_with("rank-")) &&
         (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
}

// The files behind an input, as far as they may be there.
std::vector<std::string> files_of(const std::string& input) {
  std::vector<std::string> files = {input};
  for (const char* end : kOfSets) files.push_back(input + end);
  for (const char* name : kOfFolders) files.push_back(input + "/" + name);
  std::error_code error;  // an input that cannot be looked at is told by who reads it
  for (fs::directory_iterator it(input, error), end; !error && it != end; it.increment(error))
    if (is_weights(it->path().filename())) files.push_back(it->path());
  return files;
}

}  // namespace

void check_output(const std::string& option, const std::string& out,
                  const std::vector<std::string>& inputs) {
  std::error_code error;
  const fs::file_status status = fs::status(out, error);
  FT_CHECK_CONFIG(!fs::is_directory(status), "{} {}: is a folder; name a file", option, out);
  if (!fs::is_regular_file(status)) return;
  for (const std::string& input : inputs) {
    if (input.empty()) continue;
    for (const std::string& file : files_of(input))
      FT_CHECK_CONFIG(file_id(file) != file_id(out),
                      "{} {}: is {}, which this command reads and would replace; choose another {}",
                      option, out, file == out ? "an input" : "the input " + file, option);
  }
}

}  // namespace ft
