// Text to tree. yaml-cpp finds the events; what strictness asks for beyond it is checked here.
#include "core/option_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

namespace ft {

namespace {

using Impl = OptionNode::Impl;

// Length of the UTF-8 character at `at`; 0 where there is none (RFC 3629: no overlong forms, no
// surrogates, nothing beyond U+10FFFF).
size_t utf8_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool beyond = (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f);
  return overlong || beyond ? 0 : length;
}

// yaml-cpp closes a quote that the file leaves open at its end, swallowing all settings below it.
bool quote_closed(const std::string& text, size_t at) {
  const char quote = at < text.size() ? text[at] : '\0';
  if (quote != '"' && quote != '\'') return true;  // a block of text
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') ++i;
    else if (quote == '\'' && text[i] == quote && i + 1 < text.size() && text[i + 1] == quote) ++i;
    else if (text[i] == quote) return true;
  }
  return false;
}

class Builder : public YAML::EventHandler {
 public:
  Builder(const std::string& text, const std::string& origin) : text_(text), origin_(origin) {}

  Impl::Ptr root() const { return root_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (root_)
      refuse(mark, "a second document or text after the end; one map of settings is expected");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(mark, Impl::Null, "?", anchor));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not supported; a text that begins with * needs quotes");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const Impl::Ptr node = make(mark, Impl::Scalar, tag, anchor);
    node->value = value;
    node->quoted = tag == "!";
    if (node->quoted && !quote_closed(text_, static_cast<size_t>(mark.pos)))
      refuse(mark, "this quote is never closed");
    if (!node->quoted && (value.empty() || value == "~" || value == "null"))
      node->kind = Impl::Null;
    add(node);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(mark, Impl::List, tag, anchor));
  }
  void OnSequenceEnd() override { stack_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(mark, Impl::Map, tag, anchor));
  }
  void OnMapEnd() override { stack_.pop_back(); }

 private:
  struct Frame {
    Impl::Ptr node, key;  // of a map: the key whose value comes next
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& text) const {
    throw ConfigError(fmt::format("{}:{}:{}: {}", origin_, mark.line + 1, mark.column + 1, text));
  }
  Impl::Ptr make(const YAML::Mark& mark, Impl::Kind kind, const std::string& tag,
                 YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor)
      refuse(mark,
             "anchors (&name) are not supported: write the value out, or share it by `extends:`");
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(mark, "tags (" + tag + ") are not supported; the setting knows its own type");
    auto node = std::make_shared<Impl>();
    node->kind = kind;
    node->file = origin_;
    node->line = mark.line + 1, node->column = mark.column + 1;
    return node;
  }
  void add(const Impl::Ptr& node) {
    if (stack_.empty()) {
      root_ = node;
    } else if (Frame& top = stack_.back(); top.node->kind == Impl::List) {
      top.node->items.push_back(node);
    } else if (!top.key) {
      if (node->kind != Impl::Scalar)
        option_error(OptionNode(node), "a key must be a word; is a bracket or a brace left open?");
      if (node->value == "<<" && !node->quoted)
        option_error(OptionNode(node), "merge keys (<<) are not supported; use `extends:`");
      if (top.node->find(node->value))
        option_error(OptionNode(node), "key \"" + node->value + "\" is given twice");
      top.key = node;
    } else {
      top.node->entries.push_back({top.key->value, top.key, node});
      top.key = nullptr;
    }
  }
  void open(const Impl::Ptr& node) {
    add(node);
    stack_.push_back({node, nullptr});
    if (stack_.size() > kMaxDepth)
      option_error(OptionNode(node), fmt::format("nested deeper than {} levels", kMaxDepth));
  }

  const std::string& text_;
  const std::string& origin_;
  Impl::Ptr root_;
  std::vector<Frame> stack_;
};

}  // namespace

// (yaml-cpp would take a byte 4 for the end of the file.)
std::string clean_text(const std::string& text, const std::string& origin) {
  std::string out;
  out.reserve(text.size());
  int line = 1, column = 1;
  for (size_t i = text.rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_length(text, i);
    FT_CHECK_CONFIG(length > 0, "{}:{}:{}: byte 0x{:02x} is not UTF-8; save the file as UTF-8",
                    origin, line, column, byte);
    const bool control =
        (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
    FT_CHECK_CONFIG(!control, "{}:{}:{}: control character 0x{:02x}; is this a text file?", origin,
                    line, column, byte);
    if (byte == '\r') {
      if (i + 1 == text.size() || text[i + 1] != '\n') out += '\n', ++line, column = 1;
    } else {
      out.append(text, i, length);
      if (byte == '\n') ++line, column = 1;
      else ++column;
    }
    i += length;
  }
  return out;
}

Impl::Ptr parse_yaml(std::string text, const std::string& origin) {
  text = clean_text(text, origin);
  Builder builder(text, origin);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError(fmt::format("{}:{}:{}: not valid YAML: {}", origin, error.mark.line + 1,
                                  error.mark.column + 1, error.msg));
  }
  if (builder.root()) return builder.root();
  auto empty = std::make_shared<Impl>();
  empty->kind = Impl::Null;
  empty->file = origin;
  empty->line = empty->column = 1;
  return empty;
}

}  // namespace ft
