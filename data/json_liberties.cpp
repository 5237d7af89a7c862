#include "data/json_liberties.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>

namespace ft {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Bytes of a number as JSON writes it that begins here; 0: there is none.
size_t number_bytes(std::string_view text) {
  size_t at = !text.empty() && text[0] == '-';
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - begin;
  };
  const bool zero = at < text.size() && text[at] == '0';
  const size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (digits() == 0) return 0;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return 0;
  }
  const char next = at < text.size() ? text[at] : ' ';
  return std::isalnum(static_cast<uint8_t>(next)) || next == '.' ? 0 : at;
}

// The unit of a \uXXXX that begins here; -1: there is none.
int unit(std::string_view text) {
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return -1;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data() + 2, text.data() + 6, value, 16);
  return error == std::errc() && end == text.data() + 6 ? static_cast<int>(value) : -1;
}

bool is_high(int unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low(int unit) { return unit >= 0xDC00 && unit < 0xE000; }

// The escape that begins here: how many bytes, and as it may stand.
size_t escape(std::string_view text, std::string& out) {
  const int first = unit(text);
  size_t n = std::min<size_t>(first >= 0 ? 6 : 2, text.size());
  if (is_high(first) && is_low(unit(text.substr(6)))) n = 12;
  else if (is_high(first) || is_low(first)) return out += "\\ufffd", n;
  out += text.substr(0, n);
  return n;
}

}  // namespace

std::string strict_json(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool quoted = false;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (quoted && rest[0] == '\\') {
      at += escape(rest, out);
      continue;
    }
    if (rest[0] == '"') quoted = !quoted;
    const char before = at > 0 ? text[at - 1] : ' ';
    const bool begins = !quoted && !std::isalnum(static_cast<uint8_t>(before)) && before != '.' &&
                        before != '-' && before != '+';
    size_t n = 0;
    for (const std::string_view name : {"NaN", "Infinity", "-Infinity"})
      if (begins && rest.starts_with(name)) n = name.size(), out += "null";
    if (begins && n == 0 && (n = number_bytes(rest)) > 0) {
      const std::string_view number = rest.substr(0, n);
      out += n > 18 || number.find_first_of("eE") != number.npos ? "0" : number;
    }
    if (n == 0) out += rest[0];
    at += std::max<size_t>(n, 1);
  }
  return out;
}

}  // namespace ft
