#include "data/text/regex_syntax.h"

#include "core/check.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace ft {

namespace {

// Oniguruma's \w; PCRE2's lacks marks and most connectors. Outside of a class it takes the
// fractions and raised digits of Latin-1 too.
constexpr const char* kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr const char* kLatin = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
// Properties with names; other long names are scripts.
constexpr std::array kProperties{"Alphabetic", "Any",       "Emoji",
                                 "Lowercase",  "Uppercase", "White_Space"};
// What may follow "(?".
constexpr std::array kGroups{":", "=", "!", ">", "<=", "<!", "i:"};

class Translator {
 public:
  explicit Translator(const std::string& in) : in_(in) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') escape();
      else if (in_class_) class_part(c);
      else if (c == '(') group();
      else if (c == '{') interval();
      else if (c == '[') open_class();
      else take(1);
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw ConfigError(
        fmt::format("the regular expression {}: {} at byte {} is not supported", in_, what, at_));
  }
  std::string_view rest() const { return std::string_view(in_).substr(at_); }
  void take(size_t n) { out_ += in_.substr(at_, n), at_ += n; }
  void put(const std::string& text, size_t n) { out_ += text, at_ += n; }

  void open_class() {
    in_class_ = true;
    take(1);
    if (rest().starts_with("^")) take(1);
    if (rest().starts_with("]")) take(1);  // here it is a member
  }

  void class_part(char c) {
    if (c == '[') refuse("a class within a class");
    if (rest().starts_with("&&")) refuse("an intersection of classes (&&)");
    in_class_ = c != ']';
    take(1);
  }

  void group() {
    if (rest().starts_with("(*")) refuse("(*");
    if (rest().starts_with("(?") &&
        std::none_of(kGroups.begin(), kGroups.end(),
                     [&](std::string_view kind) { return rest().substr(2).starts_with(kind); }))
      refuse(std::string(rest().substr(0, 4)));
    take(1);
    if (rest().starts_with("?")) take(1);  // no quantifier
  }

  // {n}, {n,}, {n,m}; PCRE2 reads {,m}, {n}? and {n,m}+ in other ways.
  void interval() {
    const size_t end = in_.find('}', at_);
    const std::string inner = end == std::string::npos ? "" : in_.substr(at_ + 1, end - at_ - 1);
    const bool plain = !inner.empty() &&
                       inner.find_first_not_of("0123456789,") == std::string::npos &&
                       inner[0] != ',' && std::count(inner.begin(), inner.end(), ',') <= 1;
    if (!plain) refuse("{ that begins no {n}, {n,} or {n,m}");
    const char after = end + 1 < in_.size() ? in_[end + 1] : ' ';
    if (after == '+' || after == '*' || (after == '?' && inner.find(',') == std::string::npos))
      refuse(in_.substr(at_, end + 2 - at_));
    take(end + 1 - at_);
  }

  void escape() {
    if (at_ + 1 == in_.size()) refuse("a backslash without a character");
    const char c = in_[at_ + 1];
    const bool hex4 = c == 'u' && at_ + 6 <= in_.size() &&
                      std::all_of(in_.begin() + static_cast<long>(at_) + 2,
                                  in_.begin() + static_cast<long>(at_) + 6,
                                  [](unsigned char d) { return std::isxdigit(d); });
    if (c == 's') put("\\p{White_Space}", 2);
    else if (c == 'S') put("\\P{White_Space}", 2);
    else if (c == 'w') put(in_class_ ? kWord : fmt::format("[{}{}]", kWord, kLatin), 2);
    else if (c == 'W' && !in_class_) put(fmt::format("[^{}{}]", kWord, kLatin), 2);
    else if (c == 'v') put("\\x{b}", 2);
    else if (c == 'p' || c == 'P') property();
    else if (hex4) put(fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4)), 6);
    else if (rest().starts_with("\\x{")) take(3);
    else if (std::string_view("dDntrf").find(c) != std::string_view::npos) take(2);
    else if (static_cast<unsigned char>(c) < 128 && !std::isalnum(static_cast<unsigned char>(c)))
      take(2);
    else refuse(in_.substr(at_, 2));
  }

  // \p{Lu}, \p{^L}, \P{Han}.
  void property() {
    const size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == std::string::npos)
      refuse("\\p without {");
    std::string name = in_.substr(at_ + 3, end - at_ - 3);
    const bool inverted = name.starts_with("^");
    if (inverted) name.erase(0, 1);
    const bool known = name.size() <= 2 ||
                       std::find(kProperties.begin(), kProperties.end(), name) != kProperties.end();
    put(fmt::format("\\{}{{{}{}{}}}", in_[at_ + 1], inverted ? "^" : "", known ? "" : "sc:", name),
        end + 1 - at_);
  }

  const std::string& in_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string pcre2_syntax(const std::string& oniguruma) { return Translator(oniguruma).run(); }

}  // namespace ft
