#include "data/text/tokenizer.h"

#include "data/text/regex.h"
#include "core/check.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

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

// A byte is its own id.
class Bytes : public Tokenizer {
 public:
  Bytes() {
    for (int b = 0; b < kByteEndOfDocument; ++b) all_ += static_cast<char>(b);
  }
  std::string name() const override { return "bytes"; }
  int64_t vocab_size() const override { return kByteVocab; }
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
  const std::vector<int32_t>& prefix() const override { return none_; }
  std::string_view token(int64_t id) const override {
    if (id == kByteEndOfDocument) return "<end>";
    return special(id) ? "" : std::string_view(all_).substr(static_cast<size_t>(id), 1);
  }
  bool special(int64_t id) const override { return id < 0 || id >= kByteEndOfDocument; }
  std::string hash() const override {
    std::map<int64_t, std::string_view> tokens;
    for (int64_t id = 0; id < kByteVocab; ++id) tokens[id] = token(id);
    return vocabulary_hash(tokens);
  }
  int64_t id_of(std::string_view name) const override {
    return name == token(kByteEndOfDocument) ? kByteEndOfDocument : -1;
  }

 private:
  std::string all_;
  std::vector<int32_t> none_;
};

bool is_space(std::string_view character) {
  static const Regex space("\\s");
  return space.within(character);
}

}  // namespace

std::vector<int32_t> Tokenizer::encode_prompt(std::string_view text) const {
  std::vector<int32_t> ids = encode(text);
  const auto& before = prefix();
  if (ids.size() < before.size() || !std::equal(before.begin(), before.end(), ids.begin()))
    ids.insert(ids.begin(), before.begin(), before.end());
  return ids;
}

std::unique_ptr<Tokenizer> byte_tokenizer() { return std::make_unique<Bytes>(); }

std::string vocabulary_hash(const std::map<int64_t, std::string_view>& tokens) {
  uLong hash = 0;
  for (const auto& [id, token] : tokens) {
    const std::string line = fmt::format("{} {}\n", id, token);
    hash = crc32_z(hash, reinterpret_cast<const Bytef*>(line.data()), line.size());
  }
  return fmt::format("{:08x}", hash);
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

std::string valid_utf8(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (char c : bytes) text += stream.add(static_cast<uint8_t>(c));
  return text + stream.finish();
}

size_t character_bytes(char first) {
  return static_cast<size_t>(1 + std::max(0, following(static_cast<uint8_t>(first))));
}

std::string_view last_character(std::string_view text) {
  size_t at = text.size();
  while (at > 0 && (static_cast<uint8_t>(text[--at]) & 0xC0) == 0x80) continue;
  return text.substr(at);
}

size_t leading_space(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && is_space(text.substr(n, character_bytes(text[n]))))
    n += character_bytes(text[n]);
  return n;
}

size_t trailing_space(std::string_view text) {
  size_t n = 0;
  for (std::string_view last; n < text.size(); n += last.size()) {
    last = last_character(text.substr(0, text.size() - n));
    if (!is_space(last)) break;
  }
  return n;
}

}  // namespace ft
