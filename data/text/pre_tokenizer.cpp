#include "data/text/pre_tokenizer.h"

#include "data/text/tokenizer.h"
#include "core/check.h"

#include <algorithm>
#include <array>
#include <map>

namespace ft {

namespace {

constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kPunctuation = R"([!-/:-@\[-`{-~\p{P}])";
// Its \w has the two joiners too.
constexpr const char* kWhitespace = R"([\w\x{200c}\x{200d}]+|[^\w\x{200c}\x{200d}\s]+)";

std::string utf8(unsigned code) {  // below 0x800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// Printable Latin-1 stands for itself; the other bytes, in order, are U+0100 and so on.
std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> characters;
  unsigned next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
    characters[b] = utf8(printable ? b : next++);
  }
  return characters;
}

}  // namespace

const std::string& character_of_byte(uint8_t byte) {
  static const std::array<std::string, 256> characters = byte_characters();
  return characters[byte];
}

std::string bytes_of_token(std::string_view token) {
  static const std::map<std::string, char, std::less<>> bytes = [] {
    std::map<std::string, char, std::less<>> all;
    for (int b = 0; b < 256; ++b)
      all[character_of_byte(static_cast<uint8_t>(b))] = static_cast<char>(b);
    return all;
  }();
  std::string text;
  for (size_t at = 0; at < token.size();) {
    const size_t n = character_bytes(token[at]);
    const auto found = bytes.find(token.substr(at, n));
    if (found == bytes.end()) return std::string(token);
    text += found->second;
    at += n;
  }
  return text;
}

PreTokenizer::PreTokenizer(const JsonPart& part) { add(part); }

PreTokenizer::Keep PreTokenizer::keep_of(const JsonPart& part, const char* absent) {
  static const std::map<std::string, Keep> names{{"Removed", Keep::Removed},
                                                 {"Isolated", Keep::Isolated},
                                                 {"MergedWithPrevious", Keep::MergedWithPrevious},
                                                 {"MergedWithNext", Keep::MergedWithNext},
                                                 {"Contiguous", Keep::Contiguous}};
  const auto found = names.find(part.word("behavior", absent));
  if (found == names.end())
    part.refuse(fmt::format("behavior {} is not supported", part.at("behavior").value().dump()));
  return found->second;
}

Regex PreTokenizer::pattern_of(const JsonPart& part) {
  const JsonPart pattern = part.at("pattern");
  pattern.only({"Regex", "String"});
  if (!pattern.has("Regex")) return Regex::literal(pattern.at("String").text());
  try {
    return Regex(pattern.at("Regex").text());
  } catch (const ConfigError& error) {
    pattern.refuse(error.what());
  }
}

void PreTokenizer::add(const JsonPart& part) {
  const std::string type = part.at("type").text();
  if (type == "Sequence") {
    part.only({"type", "pretokenizers"});
    for (const JsonPart& one : part.list("pretokenizers")) add(one);
  } else if (type == "ByteLevel") {
    part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    Step step{.prefix_space = part.flag("add_prefix_space", true), .bytes = true};
    if (part.flag("use_regex", true)) step.regex = Regex(kGpt2);
    steps_.push_back(step);
  } else if (type == "Split") {
    part.only({"type", "pattern", "behavior", "invert"});
    steps_.push_back({.regex = pattern_of(part),
                      .keep = keep_of(part, ""),
                      .invert = part.flag("invert", false)});
  } else if (type == "Digits") {
    part.only({"type", "individual_digits"});
    steps_.push_back(
        {.regex = Regex("\\p{N}"),
         .keep = part.flag("individual_digits", false) ? Keep::Isolated : Keep::Contiguous});
  } else if (type == "Punctuation") {
    part.only({"type", "behavior"});
    steps_.push_back({.regex = Regex(kPunctuation), .keep = keep_of(part, "Isolated")});
  } else if (type == "Whitespace") {
    part.only({"type"});
    steps_.push_back({.regex = Regex(kWhitespace), .keep = Keep::Removed, .invert = true});
  } else {
    part.refuse(fmt::format("type {} is not supported", type));
  }
}

std::vector<std::string_view> PreTokenizer::cut(const Step& step, std::string_view text) {
  if (!step.regex) return {text};
  std::vector<Regex::Part> kept;
  std::vector<Regex::Part> parts = step.regex->split(text);
  const bool backwards = step.keep == Keep::MergedWithNext;
  if (backwards) std::reverse(parts.begin(), parts.end());
  bool previous = false;  // whether the part before was a separator
  for (Regex::Part& part : parts) {
    part.match ^= step.invert;
    const bool merges = step.keep == Keep::Contiguous ? part.match == previous
                        : step.keep == Keep::MergedWithPrevious || backwards
                            ? part.match && !previous
                            : false;
    previous = part.match;
    if (part.match && step.keep == Keep::Removed) continue;
    if (!merges || kept.empty()) kept.push_back(part);
    else if (backwards) kept.back().begin = part.begin;
    else kept.back().end = part.end;
  }
  if (backwards) std::reverse(kept.begin(), kept.end());
  std::vector<std::string_view> pieces;
  for (const Regex::Part& part : kept)
    if (part.begin < part.end) pieces.push_back(text.substr(part.begin, part.end - part.begin));
  return pieces;
}

std::vector<std::string> PreTokenizer::operator()(std::string_view text) const {
  std::vector<std::string> pieces;
  if (!text.empty()) pieces.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    for (std::string& piece : pieces) {
      if (step.prefix_space && !piece.starts_with(' ')) piece.insert(0, " ");
      for (const std::string_view part : cut(step, piece)) {
        if (!step.bytes) {
          next.emplace_back(part);
          continue;
        }
        std::string& written = next.emplace_back();
        for (const char c : part) written += character_of_byte(static_cast<uint8_t>(c));
      }
    }
    pieces = std::move(next);
  }
  return pieces;
}

}  // namespace ft
