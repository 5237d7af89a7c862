#include "core/options.h"

#include "core/option_tree.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace ft {

namespace {

using Impl = OptionNode::Impl;

size_t distance(const std::string& a, const std::string& b) {  // Levenshtein
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Plain digits with sign, dot and exponent; all of the text. No inf, nan, hexadecimal.
template <class T>
std::optional<T> parse_plain(const std::string& text) {
  const size_t sign = text.rfind('+', 0) == 0 ? 1 : 0;
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return std::nullopt;
  if (sign && text.size() > 1 && text[1] == '-') return std::nullopt;
  T value = 0;
  const char *begin = text.data() + sign, *stop = text.data() + text.size();
  const auto [end, error] = std::from_chars(begin, stop, value);
  return error == std::errc() && end == stop ? std::optional(value) : std::nullopt;
}

// What people write from habit with other readers, and how it is written here; or nothing.
std::string number_hint(const OptionNode& node, const std::string& text, bool quoted) {
  const auto with = [](const char* words) { return std::string("; ") + words; };
  if (node.is_null()) return with("null stands for no value");
  if (!node.is_scalar()) return "";
  if (quoted && plain_number(text)) return with("write it without quotes");
  if (text.rfind("0x", 0) == 0 || text.rfind("0o", 0) == 0)
    return with("write it in decimal digits");
  if (text.find('_') != std::string::npos || text.find(',') != std::string::npos)
    return with("write digits without separators, or 64k, 2.5B");
  const char last = text.empty() ? '\0' : text.back();
  if (std::string("KmGgTtb").find(last) != std::string::npos &&
      parse_plain<double>(text.substr(0, text.size() - 1)))
    return with("the suffixes are k, M and B (thousand, million, billion)");
  if (text == ".nan" || text == "NaN" || text == "nan")
    return with("NaN is no value to train with");
  if (text == "inf" || text == "infinity") return with("infinity is written .inf");
  return "";
}

std::string got(const OptionNode& node, const std::string& text) {
  if (node.is_map()) return "a map";
  if (node.is_list()) return "a list";
  if (node.is_null()) return "null";
  return "\"" + (text.size() > 40 ? text.substr(0, 40) + "..." : text) + "\"";
}

}  // namespace

// A number with an optional decimal suffix k, M or B, which moves the decimal point: 2.3k is 2300
// exactly.
std::optional<double> plain_number(const std::string& text) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const char* name : {".inf", "+.inf", "Infinity", "+Infinity"})
    if (text == name) return kInfinity;
  if (text == "-.inf" || text == "-Infinity") return -kInfinity;
  const char last = text.empty() ? '\0' : text.back();
  const char* power = last == 'k' ? "e3" : last == 'M' ? "e6" : last == 'B' ? "e9" : nullptr;
  if (!power) return parse_plain<double>(text);
  const std::string digits = text.substr(0, text.size() - 1);
  if (digits.find_first_of("eE") != std::string::npos) return std::nullopt;
  return parse_plain<double>(digits + power);
}

std::optional<int64_t> whole_number(const std::string& text) {
  // doubles hold whole numbers up to 2^53 only
  if (const auto exact = parse_plain<int64_t>(text)) return *exact;
  const auto value = plain_number(text);
  if (!value || *value != std::floor(*value) || std::fabs(*value) > 9.0e18) return std::nullopt;
  return static_cast<int64_t>(*value);
}

std::string OptionNode::scalar() const {
  if (impl_->kind != Impl::Scalar) option_error(*this, "a single value was expected");
  return impl_->value;
}

double OptionNode::number(const std::string& option) const {
  if (const Impl::Entry* wrapped = impl_->find("__float__"))  // transformers 5 writes it so
    if (const auto value = plain_number(wrapped->value->value)) return *value;
  const auto value = is_scalar() && !impl_->quoted ? plain_number(impl_->value) : std::nullopt;
  if (!value)
    option_error(*this, fmt::format("{} must be a number (0.1, 1e-3, 64k, 2.5B), got {}{}", option,
                                    got(*this, impl_->value),
                                    number_hint(*this, impl_->value, impl_->quoted)));
  return *value;
}

int64_t OptionNode::integer(const std::string& option) const {
  const auto value = is_scalar() && !impl_->quoted ? whole_number(impl_->value) : std::nullopt;
  if (!value)
    option_error(*this, fmt::format("{} must be a whole number (512, 64k, 10B), got {}{}", option,
                                    got(*this, impl_->value),
                                    number_hint(*this, impl_->value, impl_->quoted)));
  return *value;
}

bool OptionNode::boolean(const std::string& option) const {
  if (is_scalar() && !impl_->quoted) {
    if (impl_->value == "true") return true;
    if (impl_->value == "false") return false;
  }
  std::string lower = impl_->value;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto is_one_of = [&](std::initializer_list<const char*> words) {
    return std::count(words.begin(), words.end(), lower) > 0;
  };
  const bool yes = is_one_of({"yes", "on", "y", "1", "true"}),
             no = is_one_of({"no", "off", "n", "0", "false"});
  option_error(*this,
               fmt::format("{} must be true or false, got {}{}", option, got(*this, impl_->value),
                           yes  ? "; write true"
                           : no ? "; write false"
                                : ""));
}

std::string OptionNode::text(const std::string& option) const {
  if (impl_->kind != Impl::Scalar)
    option_error(*this, fmt::format("{} must be a text, got {}", option, got(*this, "")));
  return impl_->value;
}

bool OptionNode::same(const std::string& word) const { return is_scalar() && impl_->value == word; }

void option_error(const OptionNode& node, const std::string& text) {
  throw ConfigError(fmt::format("{}: {}", node.where(), text));
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 2) + 1;
  for (const std::string& one : known) {
    const size_t d = distance(word, one);
    if (d < least) least = d, best = one;
  }
  return best;
}

void check_keys(const OptionNode& node, const std::string& section,
                const std::vector<std::string>& known) {
  for (const std::string& key : node.keys()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = nearest(key, known);
    option_error(node.key(key),
                 fmt::format("unknown key \"{}\"{}; {}", key,
                             section.empty() ? "" : " in section \"" + section + "\"",
                             near.empty() ? fmt::format("known keys: {}", fmt::join(known, ", "))
                                          : "did you mean \"" + near + "\"?"));
  }
}

void with_place(const OptionNode& root, const std::function<void()>& check) {
  try {
    check();
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    const std::string path = text.substr(0, text.find_first_of(" :=[\n"));
    const OptionNode found = root.nearest_to(path);
    if (found.where().empty() || root.at(path.substr(0, path.find('.'))).where().empty()) throw;
    throw ConfigError(fmt::format("{}: {}", found.where(), text));
  }
}

std::string number_text(double value) {
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  (void)error;
  return std::string(buffer, end);
}

std::string yaml_number(double value) {
  std::string text = number_text(value);
  const size_t power = text.find('e');
  if (power != std::string::npos && text.find('.') == std::string::npos) text.insert(power, ".0");
  return text;
}

std::string OptionWriter::flow() const {
  std::string out = "{", line;
  for (const char c : text_) {
    if (c != '\n') {
      line += c;
      continue;
    }
    out += (out.size() > 1 ? ", " : "") + line;
    line.clear();
  }
  return out + "}";
}

std::string OptionWriter::quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) out += fmt::format("\\x{:02x}", byte);
    else out += c;
  }
  return out + "\"";
}

std::string limits_text(const Range& r) {
  constexpr double kHuge = 1e15;  // a bound that nobody meets is not worth a word
  if (r.low <= -kHuge && r.high >= kHuge) return "";
  if (r.high >= kHuge) return (r.above ? "above " : "at least ") + number_text(r.low);
  if (r.low <= -kHuge) return (r.below ? "below " : "at most ") + number_text(r.high);
  if (!r.above && !r.below) return fmt::format("{} to {}", number_text(r.low), number_text(r.high));
  return fmt::format("{} {}, {} {}", r.above ? "above" : "at least", number_text(r.low),
                     r.below ? "below" : "at most", number_text(r.high));
}

namespace {

// Words broken into lines of at most `width`.
std::vector<std::string> wrapped(const std::string& text, size_t width) {
  std::vector<std::string> lines{""};
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width)
      lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    at = end + 1;
  }
  return lines;
}

}  // namespace

void OptionHelp::line(const std::string& option, const std::string& type, std::string value,
                      const std::string& help) {
  while (!value.empty() && (value.back() == '\n' || value.back() == ' ')) value.pop_back();
  value.erase(0, value.find_first_not_of(' '));
  text_ += fmt::format("{}{}: {}. Default: {}\n", std::string(static_cast<size_t>(indent_), ' '),
                       option, type, value);
  const std::string margin(static_cast<size_t>(indent_) + 4, ' ');
  for (const std::string& one : wrapped(help, 100 - margin.size())) text_ += margin + one + "\n";
}

}  // namespace ft
