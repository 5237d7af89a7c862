#include "data/text/added_tokens.h"

#include "data/text/regex.h"
#include "data/text/tokenizer.h"

#include <algorithm>

namespace ft {

namespace {

bool is_word(std::string_view character) {
  static const Regex word("[\\w\\x{200c}\\x{200d}]");
  return word.within(character);
}

std::string_view first_character(std::string_view text) {
  return text.empty() ? text : text.substr(0, character_bytes(text[0]));
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return !is_word(last_character(text.substr(0, begin))) &&
         !is_word(first_character(text.substr(end)));
}

}  // namespace

AddedToken read_added_token(const JsonPart& part) {
  part.only({"id", "content", "special", "normalized", "single_word", "lstrip", "rstrip"});
  const int64_t id = part.at("id").integer();
  if (id < 0 || id > kHighestTokenId) part.refuse(fmt::format("{} is no id", id));
  const bool special = part.flag("special", false);
  return {.content = part.at("content").text(),
          .id = static_cast<int32_t>(id),
          .special = special,
          .normalized = part.flag("normalized", !special),
          .single_word = part.flag("single_word", false),
          .lstrip = part.flag("lstrip", false),
          .rstrip = part.flag("rstrip", false)};
}

void AddedTokens::add(AddedToken token, std::string pattern) {
  if (pattern.empty()) return;
  begins_[static_cast<uint8_t>(pattern[0])] = true;
  const auto at =
      std::lower_bound(lengths_.begin(), lengths_.end(), pattern.size(), std::greater<size_t>());
  if (at == lengths_.end() || *at != pattern.size()) lengths_.insert(at, pattern.size());
  patterns_.emplace(std::move(pattern), static_cast<int32_t>(tokens_.size()));
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokens::match(std::string_view text, size_t at, size_t& length) const {
  if (!begins_[static_cast<uint8_t>(text[at])]) return nullptr;
  for (const size_t n : lengths_) {
    if (at + n > text.size()) continue;
    const auto found = patterns_.find(text.substr(at, n));
    if (found == patterns_.end()) continue;
    length = n;
    return &tokens_[static_cast<size_t>(found->second)];
  }
  return nullptr;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;  // what is before it has its part
  for (size_t at = 0, length = 0; at < text.size();) {
    const AddedToken* token = match(text, at, length);
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + length;
    at = end;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->lstrip) begin = std::max(done, begin - trailing_space(text.substr(0, begin)));
    if (token->rstrip) end += leading_space(text.substr(end));
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token->id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace ft
