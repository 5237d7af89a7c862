#include "app/text/run_text.h"

#include "app/text/model_text.h"
#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// The tokenizer.json that a configuration or a note names: itself or in that folder, from where we
// are or from the set. Empty where there is none.
std::string file_of(const std::string& name, const std::string& prefix = "") {
  if (name.empty() || name == "bytes") return "";
  for (const fs::path& at : {fs::path(name), fs::path(prefix).parent_path() / name}) {
    if (fs::is_regular_file(at)) return at.string();
    if (fs::is_regular_file(at / "tokenizer.json")) return (at / "tokenizer.json").string();
  }
  return "";
}

std::unique_ptr<Tokenizer> opened(const std::string& name) {
  try {
    return open_tokenizer(name);
  } catch (const ConfigError&) {  // of a kind that this build does not read: still a name
    return nullptr;
  }
}

// What is known of the run's tokens, and the file to copy.
struct Found {
  SetInfo info;
  std::string file;
};

Found find(const Config& config) {
  Found found;
  for (const DataSource& source : config.data.train)
    if (const auto info = known_of_set(source.path);
        info && (!info->tokenizer.empty() || info->end_of_document >= 0)) {
      found = {*info, file_of(info->tokenizer, source.path)};
      break;
    }
  const std::string& named = !config.data.tokenizer.empty() ? config.data.tokenizer
                             : found.info.tokenizer.empty() ? config.model.init_from
                                                            : found.info.tokenizer;
  if (named == found.info.tokenizer || (named != "bytes" && file_of(named).empty())) return found;
  found.file = file_of(named);
  found.info.tokenizer = named == "bytes" ? named : found.file;
  if (const auto tokenizer = opened(named)) {
    found.info.tokenizer_hash = tokenizer->hash();
    found.info.vocab_size = tokenizer->vocab_size();
  }
  return found;
}

void keep_copy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::exists(from) || fs::equivalent(from, to, error)) return;
  const std::string text = read_text(from.string());
  if (!fs::exists(to) || read_text(to.string()) != text) write_text(to.string(), text);
}

}  // namespace

std::string tokenizer_words(const SetInfo& info) {
  std::string words = info.tokenizer.empty() ? "an unnamed tokenizer" : info.tokenizer;
  if (info.tokenizer != "bytes" && info.vocab_size > 0)
    words += fmt::format(" ({} tokens)", info.vocab_size);
  return words;
}

SetInfo known_of(const Tokenizer& tokenizer) {
  return {.tokenizer = tokenizer.name(),
          .tokenizer_hash = tokenizer.hash(),
          .vocab_size = tokenizer.vocab_size()};
}

std::optional<SetInfo> known_of_set(const std::string& prefix) {
  auto info = read_set_info(prefix);
  if (!info || !info->tokenizer_hash.empty() || info->tokenizer.empty()) return info;
  const std::string file = file_of(info->tokenizer, prefix);
  if (info->tokenizer != "bytes" && file.empty()) return info;
  if (const auto tokenizer = opened(file.empty() ? "bytes" : file))
    info->tokenizer_hash = tokenizer->hash();
  return info;
}

std::optional<SetInfo> read_run_text(const std::string& run) {
  return run.empty() ? std::nullopt : read_set_info(run + "/text");
}

std::string run_of_checkpoint(const std::string& checkpoint) {
  const fs::path path = fs::absolute(checkpoint).lexically_normal();
  const fs::path all = (path.has_filename() ? path : path.parent_path()).parent_path();
  return all.filename() == "checkpoints" ? all.parent_path().string() : "";
}

void check_start_tokenizer(const Config& config) {
  const std::string file = file_of(config.model.init_from);
  if (file.empty()) return;
  const auto tokenizer = opened(file);
  if (!tokenizer) return;
  for (const auto* sources : {&config.data.train, &config.data.validation})
    for (const DataSource& source : *sources) {
      const auto info = known_of_set(source.path);
      FT_CHECK_CONFIG(
          !info || !other_tokenizer(known_of(*tokenizer), *info),
          "model.init_from: {} was trained with {}, the token set {} was made with {}: its ids mean "
          "other text to these weights; make the set again with that tokenizer",
          config.model.init_from, tokenizer_words(known_of(*tokenizer)), source.path,
          tokenizer_words(*info));
    }
}

void keep_run_text(const std::string& run, const Config& config) {
  const Found found = find(config);
  if (found.info.tokenizer.empty() && found.info.end_of_document < 0) return;
  const auto before = read_run_text(run);
  FT_CHECK_CONFIG(!before || !other_tokenizer(*before, found.info),
                  "{}: this run was trained with {}, its data now names {}; take the data that it "
                  "was made for, or set another run.name",
                  run, tokenizer_words(*before), tokenizer_words(found.info));
  json note = json::object();
  if (!found.info.tokenizer.empty())
    note["tokenizer"] = found.file.empty() ? found.info.tokenizer : "tokenizer.json";
  note["vocab_size"] = found.info.vocab_size;
  if (!found.info.tokenizer_hash.empty()) note["tokenizer_hash"] = found.info.tokenizer_hash;
  if (found.info.end_of_document >= 0) note["end_of_document"] = found.info.end_of_document;
  if (!found.file.empty()) {
    keep_copy(found.file, run + "/tokenizer.json");
    keep_copy(fs::path(found.file).parent_path() / "tokenizer_config.json",
              run + "/tokenizer_config.json");
  }
  write_text(run + "/text.json", note.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace ft
