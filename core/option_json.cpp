// JSON as Python writes it: NaN and Infinity are numbers, and \ud83d\ude00 is one character, neither
// of which a YAML or a strict JSON reader takes; and every value keeps its place in the file.
#include "core/option_tree.h"

#include <cctype>

namespace ft {

namespace {

using Impl = OptionNode::Impl;

constexpr unsigned kReplacement = 0xfffd;  // stands for half a surrogate pair

void append_utf8(std::string& out, unsigned code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6)), tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12)), tail(6), tail(0);
  } else {
    out += static_cast<char>(0xf0 | (code >> 18)), tail(12), tail(6), tail(0);
  }
}

class JsonParser {
 public:
  JsonParser(const std::string& text, const std::string& origin) : text_(text), origin_(origin) {}

  Impl::Ptr document() {
    Impl::Ptr root = value(0);
    skip_space();
    if (at_ < text_.size()) refuse("text after the end of the value");
    return root;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw ConfigError(
        fmt::format("{}:{}:{}: not valid JSON: {}", origin_, line_, at_ - line_begin_ + 1, what));
  }

  char next() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\n') ++line_, line_begin_ = at_ + 1;
      else if (text_[at_] != ' ' && text_[at_] != '\t') return;
    }
  }

  bool take(char c) {
    skip_space();
    if (next() != c) return false;
    ++at_;
    return true;
  }

  Impl::Ptr make(Impl::Kind kind) const {
    auto node = std::make_shared<Impl>();
    node->kind = kind;
    node->file = origin_;
    node->line = line_, node->column = static_cast<int>(at_ - line_begin_) + 1;
    return node;
  }

  Impl::Ptr value(size_t depth) {
    skip_space();
    if (depth > kMaxDepth) refuse(fmt::format("nested deeper than {} levels", kMaxDepth));
    if (next() == '{') return map(depth);
    if (next() == '[') return list(depth);
    if (next() == '"') return quoted();
    return word();
  }

  Impl::Ptr map(size_t depth) {
    const Impl::Ptr node = make(Impl::Map);
    ++at_;
    if (take('}')) return node;
    do {
      skip_space();
      if (next() != '"') refuse("a key in double quotes is expected");
      const Impl::Ptr key = quoted();
      if (node->find(key->value))
        option_error(OptionNode(key), "key \"" + key->value + "\" is given twice");
      if (!take(':')) refuse("a colon is expected behind the key \"" + key->value + "\"");
      node->entries.push_back({key->value, key, value(depth + 1)});
    } while (take(','));
    if (!take('}')) refuse("a comma or the end of the map, }, is expected");
    return node;
  }

  Impl::Ptr list(size_t depth) {
    const Impl::Ptr node = make(Impl::List);
    ++at_;
    if (take(']')) return node;
    do {
      node->items.push_back(value(depth + 1));
    } while (take(','));
    if (!take(']')) refuse("a comma or the end of the list, ], is expected");
    return node;
  }

  Impl::Ptr quoted() {
    const Impl::Ptr node = make(Impl::Scalar);
    node->quoted = true;
    ++at_;
    while (next() != '"') {
      const char c = next();
      if (at_ == text_.size() || c == '\n') refuse("this text is never closed; a \" is missing");
      ++at_;
      if (c == '\\') escape(node->value);
      else node->value += c;
    }
    ++at_;
    return node;
  }

  void escape(std::string& out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    const char name = next();
    const size_t which = kNames.find(name);
    if (name != 'u' && (name == '\0' || which == kNames.npos))
      refuse(fmt::format("\\{} is not an escape", name));
    ++at_;
    if (name != 'u') {
      out += kMeant[which];
      return;
    }
    unsigned code = hex4();
    if (code >= 0xd800 && code < 0xdc00 && text_.compare(at_, 2, "\\u") == 0) {
      const size_t back = at_;
      at_ += 2;
      const unsigned low = hex4();
      if (low >= 0xdc00 && low < 0xe000) code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      else at_ = back;
    }
    append_utf8(out, code >= 0xd800 && code < 0xe000 ? kReplacement : code);
  }

  unsigned hex4() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (!std::isxdigit(static_cast<unsigned char>(next())))
        refuse("four hexadecimal digits are expected behind \\u");
      const int c = std::tolower(static_cast<unsigned char>(next()));
      code = code * 16 + static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return code;
  }

  // true, false, null, or a number, which is converted when it is asked for.
  Impl::Ptr word() {
    const Impl::Ptr node = make(Impl::Scalar);
    const size_t begin = at_;
    while (std::isalnum(static_cast<unsigned char>(next())) ||
           (next() == '+' || next() == '-' || next() == '.'))
      ++at_;
    node->value = text_.substr(begin, at_ - begin);
    const std::string& w = node->value;
    if (w == "null") node->kind = Impl::Null;
    for (const char* name : {"null", "true", "false", "NaN", "Infinity", "-Infinity"})
      if (w == name) return node;
    const size_t digit = w.starts_with('-') ? 1 : 0;
    if (digit < w.size() && std::isdigit(static_cast<unsigned char>(w[digit])) &&
        w.find_first_not_of("0123456789+-.eE") == w.npos)
      return node;
    at_ = begin;
    refuse(w.empty() ? "a value is expected" : "\"" + w + "\" is no value");
  }

  const std::string& text_;
  const std::string& origin_;
  size_t at_ = 0, line_begin_ = 0;
  int line_ = 1;
};

}  // namespace

Impl::Ptr parse_json(std::string text, const std::string& origin) {
  text = clean_text(text, origin);
  if (text.find_first_not_of(" \t\n") != text.npos) return JsonParser(text, origin).document();
  throw ConfigError(origin + ": is empty; a JSON object is expected");
}

}  // namespace ft
