#include "data/text/end_token.h"

#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kMend = "say --end-of-document TOKEN, or none";

// The id that a value of one of those files means: a token, {"content": a token}, an id, or a list
// of ids, of which the first.
int32_t id_of_value(const Tokenizer& tokenizer, const fs::path& file, const json& value) {
  const json& one = value.is_array() && !value.empty() ? value[0] : value;
  const json& named = one.is_object() && one.contains("content") ? one["content"] : one;
  const int64_t id = named.is_string()           ? tokenizer.id_of(named.get<std::string>())
                     : named.is_number_integer() ? named.get<int64_t>()
                                                 : -1;
  FT_CHECK_CONFIG(id >= 0 && id < tokenizer.vocab_size(),
                  "{}: names {} as the end, which is no token of {}; {}", file.string(),
                  value.dump(-1, ' ', true, json::error_handler_t::replace), tokenizer.name(),
                  kMend);
  return static_cast<int32_t>(id);
}

std::optional<int32_t> named_beside(const Tokenizer& tokenizer) {
  for (const auto& [name, key] : {std::pair{"tokenizer_config.json", "eos_token"},
                                  {"special_tokens_map.json", "eos_token"},
                                  {"generation_config.json", "eos_token_id"},
                                  {"config.json", "eos_token_id"}}) {
    const fs::path file = fs::path(tokenizer.name()).parent_path() / name;
    if (!fs::is_regular_file(file)) continue;
    const json all = json::parse(read_text(file), nullptr, false);
    FT_CHECK_CONFIG(all.is_object(), "{}: is no JSON object; mend it, or {}", file.string(), kMend);
    const auto found = all.find(key);
    if (found != all.end() && !found->is_null()) return id_of_value(tokenizer, file, *found);
  }
  return std::nullopt;
}

// Digits are an id: every vocabulary has tokens of digits, and none of them ends documents.
int32_t wanted_id(const Tokenizer& tokenizer, const std::string& wanted) {
  int64_t id = -1;
  const char* end = wanted.data() + wanted.size();
  if (std::from_chars(wanted.data(), end, id).ptr != end) id = tokenizer.id_of(wanted);
  FT_CHECK_CONFIG(id >= 0 && id < tokenizer.vocab_size(),
                  "--end-of-document {}: is neither a token nor an id of {}", wanted,
                  tokenizer.name());
  return static_cast<int32_t>(id);
}

}  // namespace

std::optional<int32_t> end_token(const Tokenizer& tokenizer, const std::string& wanted) {
  if (wanted == "none") return std::nullopt;
  if (!wanted.empty()) return wanted_id(tokenizer, wanted);
  if (tokenizer.name() == "bytes") return kByteEndOfDocument;
  if (const auto id = named_beside(tokenizer)) return id;
  constexpr const char* kUsual[] = {"<|endoftext|>", "<|end_of_text|>", "<|eot_id|>",
                                    "</s>",          "<eos>",           "[SEP]"};
  for (const char* name : kUsual)
    if (const int64_t id = tokenizer.id_of(name); id >= 0) return static_cast<int32_t>(id);
  throw ConfigError(
      fmt::format("{}: no file beside it names the token that ends documents, and it has none of "
                  "{}; {}",
                  tokenizer.name(), fmt::join(kUsual, ", "), kMend));
}

}  // namespace ft
