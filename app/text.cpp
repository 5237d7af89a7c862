#include "app/text.h"

namespace ft {

namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Continuation bytes after this first byte; -1: no first byte of a character.
int following(uint8_t byte) {
  if (byte < 0x80) return 0;
  if (byte >= 0xC2 && byte <= 0xDF) return 1;
  if (byte >= 0xE0 && byte <= 0xEF) return 2;
  return byte >= 0xF0 && byte <= 0xF4 ? 3 : -1;
}

// Whether `byte` may come second: no overlong forms, no surrogates, nothing above U+10FFFF.
bool may_follow(uint8_t first, uint8_t byte) {
  if (first == 0xE0) return byte >= 0xA0 && byte <= 0xBF;
  if (first == 0xED) return byte >= 0x80 && byte <= 0x9F;
  if (first == 0xF0) return byte >= 0x90 && byte <= 0xBF;
  if (first == 0xF4) return byte >= 0x80 && byte <= 0x8F;
  return byte >= 0x80 && byte <= 0xBF;
}

}  // namespace

bool reads_bytes(const ModelSource& source) {
  return source.tokenizer == "bytes" ||
         (source.tokenizer.empty() && source.model.vocab_size == kEndOfDocument + 1);
}

std::vector<int32_t> byte_ids(std::string_view text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

std::string Utf8Stream::add(uint8_t byte) {
  if (missing_ > 0) {
    const bool second = pending_.size() == 1;
    const auto first = static_cast<uint8_t>(pending_[0]);
    if (second ? may_follow(first, byte) : (byte & 0xC0) == 0x80) {
      pending_ += static_cast<char>(byte);
      return --missing_ > 0 ? "" : std::exchange(pending_, "");
    }
    const std::string broken = finish();
    return broken + add(byte);
  }
  const int more = following(byte);
  if (more < 0) return kReplacement;
  if (more == 0) return std::string(1, static_cast<char>(byte));
  pending_ = static_cast<char>(byte);
  missing_ = more;
  return "";
}

std::string Utf8Stream::finish() {
  if (pending_.empty()) return "";
  pending_.clear();
  missing_ = 0;
  return kReplacement;
}

}  // namespace ft
