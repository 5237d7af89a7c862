#include "data/set_info.h"

#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr uintmax_t kLargestNote = uintmax_t{1} << 20;

// The text of a file that may be a note by its kind and size.
std::optional<std::string> small_text(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  FT_CHECK_CONFIG(status.type() != fs::file_type::none, "{}: cannot be looked at: {}", path,
                  error.message());
  if (status.type() != fs::file_type::regular) return std::nullopt;
  const uintmax_t size = fs::file_size(path, error);
  FT_CHECK_CONFIG(!error, "{}: cannot be looked at: {}", path, error.message());
  if (size > kLargestNote) return std::nullopt;
  return read_text(path);
}

// Whether `value` is of the kind that a note has there; null says nothing.
bool read(const json& all, const char* key, int64_t& value) {
  const auto found = all.find(key);
  if (found == all.end() || found->is_null()) return true;
  if (!found->is_number_integer()) return false;
  if (found->is_number_unsigned() && found->get<uint64_t>() > uint64_t{1} << 62) return false;
  value = found->get<int64_t>();
  return true;
}
bool read(const json& all, const char* key, std::string& value) {
  const auto found = all.find(key);
  if (found == all.end() || found->is_null()) return true;
  if (!found->is_string()) return false;
  value = found->get<std::string>();
  return true;
}

}  // namespace

std::optional<SetInfo> read_set_info(const std::string& prefix) {
  const auto text = small_text(prefix + ".json");
  if (!text) return std::nullopt;
  const json all = json::parse(*text, nullptr, false);
  SetInfo info;
  const bool ours =
      all.is_object() &&
      (all.contains("tokenizer") || all.contains("vocab_size") || all.contains("tokens")) &&
      read(all, "tokenizer", info.tokenizer) && read(all, "tokenizer_hash", info.tokenizer_hash) &&
      read(all, "vocab_size", info.vocab_size) &&
      read(all, "end_of_document", info.end_of_document) &&
      read(all, "documents", info.documents) && read(all, "tokens", info.tokens) &&
      read(all, "bytes", info.bytes);
  return ours ? std::optional(info) : std::nullopt;
}

bool other_tokenizer(const SetInfo& a, const SetInfo& b) {
  const bool named = !a.tokenizer.empty() && !b.tokenizer.empty();
  if (named && (a.tokenizer == "bytes") != (b.tokenizer == "bytes")) return true;
  if (!a.tokenizer_hash.empty() && !b.tokenizer_hash.empty())
    return a.tokenizer_hash != b.tokenizer_hash;
  return a.vocab_size > 0 && b.vocab_size > 0 && a.vocab_size != b.vocab_size;
}

}  // namespace ft
