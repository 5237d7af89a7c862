#include "app/text/model_text.h"

#include "app/text/run_text.h"
#include "core/check.h"
#include "data/text/tokenizer_json.h"

#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

// The folders that may hold what belongs to the model: what was named, the checkpoint, its run.
std::vector<std::string> folders_of(const ModelSource& source, const std::string& path) {
  std::vector<std::string> folders{path};
  if (!source.checkpoint) return folders;
  folders.push_back(source.checkpoint->path());
  const std::string run = run_of_checkpoint(source.checkpoint->path());
  if (!run.empty()) folders.push_back(run);
  return folders;
}

std::optional<SetInfo> info_of_run(const ModelSource& source, const std::string& path) {
  for (const std::string& folder : folders_of(source, path))
    if (const auto info = read_run_text(folder)) return info;
  if (source.data.train.empty()) return std::nullopt;
  return read_set_info(source.data.train[0].path);
}

// Null where nothing says which one it is.
std::unique_ptr<Tokenizer> find(const ModelSource& source, const std::string& path,
                                const std::optional<SetInfo>& info) {
  if (source.tokenizer == "bytes") return byte_tokenizer();
  for (const std::string& folder : folders_of(source, path))
    if (fs::exists(fs::path(folder) / "tokenizer.json")) return open_tokenizer(folder);
  if (!source.tokenizer.empty()) return open_tokenizer(source.tokenizer);
  if (info && !info->tokenizer.empty())
    return tokenizer_of_set(source.data.train.empty() ? path : source.data.train[0].path,
                            info->tokenizer);
  return source.model.vocab_size == kByteVocab ? byte_tokenizer() : nullptr;
}

std::string what_was_sought(const ModelSource& source, const std::string& path) {
  std::string text =
      fmt::format("there is no tokenizer.json in {}", fmt::join(folders_of(source, path), ", "));
  if (!source.data.train.empty())
    text += fmt::format(
        ", data.tokenizer of the run is empty, and the note of its first token set ({}.json) names "
        "none",
        source.data.train[0].path);
  return text;
}

void check_fits(const Tokenizer& tokenizer, const ModelSource& source) {
  FT_CHECK_CONFIG(tokenizer.vocab_size() <= source.model.vocab_size,
                  "tokenizer {}: its ids go up to {}, the model's vocabulary is {}: it belongs to "
                  "another model",
                  tokenizer.name(), tokenizer.vocab_size() - 1, source.model.vocab_size);
}

void set_ends(ModelText& text, const ModelSource& source, const std::optional<SetInfo>& info) {
  const auto fits = [&](int64_t id) { return id >= 0 && id < source.model.vocab_size; };
  text.ends = source.model.eos_token_id;
  std::vector<int64_t> starts = text.ends;
  if (source.model.bos_token_id) starts.insert(starts.begin(), *source.model.bos_token_id);
  const bool bytes = text.tokenizer && text.tokenizer->name() == "bytes";
  const int64_t end = bytes ? kByteEndOfDocument : info ? info->end_of_document : -1;
  if (fits(end)) text.ends = starts = {end};  // what the documents of training had
  for (const int64_t id : starts)
    if (fits(id) && !text.start) text.start = static_cast<int32_t>(id);
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name) {
  return name == "bytes" ? byte_tokenizer() : read_tokenizer_json(name);
}

std::unique_ptr<Tokenizer> tokenizer_of_set(const std::string& prefix, const std::string& name) {
  const fs::path beside = fs::path(prefix).parent_path() / name;
  const bool moved = name != "bytes" && !fs::exists(name) && fs::exists(beside);
  return open_tokenizer(moved ? beside.string() : name);
}

const Tokenizer& ModelText::require(const std::string& user, const std::string& otherwise) const {
  FT_CHECK_CONFIG(tokenizer, "{} needs the model's tokenizer: {}; {}", user, why, otherwise);
  return *tokenizer;
}

ModelText text_of(const ModelSource& source, const std::string& path, const std::string& option) {
  ModelText text;
  std::optional<SetInfo> info;
  if (!option.empty()) {
    text.tokenizer = open_tokenizer(option);
    check_fits(*text.tokenizer, source);
  }
  try {
    info = info_of_run(source, path);
    auto found = text.tokenizer ? nullptr : find(source, path, info);
    if (found) {
      check_fits(*found, source);
      text.tokenizer = std::move(found);
    }
    text.why = what_was_sought(source, path);
  } catch (const Error& error) {  // token ids can be given all the same
    text.why = error.what();
  }
  if (text.tokenizer) text.known = known_of(*text.tokenizer);
  else if (info) text.known = *info;
  set_ends(text, source, info);
  return text;
}

}  // namespace ft
