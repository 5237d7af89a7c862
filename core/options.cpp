#include "core/options.h"

#include "core/file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

namespace ft {

namespace fs = std::filesystem;

// Own tree: order of keys, places and quotes are kept, and duplicates were refused when it was
// made.
struct OptionNode::Impl {
  enum Kind { Missing, Null, Scalar, List, Map } kind = Missing;
  std::string file;
  int line = 0, column = 0;
  std::string value;
  bool quoted = false;
  std::vector<std::shared_ptr<Impl>> items;
  std::vector<std::pair<std::string, std::shared_ptr<Impl>>> entries;

  std::shared_ptr<Impl>* find(const std::string& key) {
    for (auto& [name, node] : entries)
      if (name == key) return &node;
    return nullptr;
  }
};

namespace {

using Impl = OptionNode::Impl;
using ImplPtr = std::shared_ptr<Impl>;
constexpr int kMaxDepth = 64;
constexpr int64_t kMaxNodes = 500'000;  // aliases of aliases grow without bound

ImplPtr convert(const YAML::Node& node, const std::string& file, int64_t& nodes, int depth = 0) {
  auto out = std::make_shared<Impl>();
  out->file = file;
  out->line = node.Mark().line + 1, out->column = node.Mark().column + 1;
  if (depth > kMaxDepth) option_error(OptionNode(out), "nested too deeply");
  if (++nodes > kMaxNodes)
    option_error(OptionNode(out), fmt::format("more than {} values", kMaxNodes));
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      out->kind = Impl::Scalar;
      out->value = node.Scalar();
      out->quoted = node.Tag() == "!";
      if (!out->quoted && (out->value == "null" || out->value == "~" || out->value.empty()))
        out->kind = Impl::Null;
      break;
    case YAML::NodeType::Sequence:
      out->kind = Impl::List;
      for (const auto& item : node) out->items.push_back(convert(item, file, nodes, depth + 1));
      break;
    case YAML::NodeType::Map: {
      out->kind = Impl::Map;
      std::set<std::string> keys;
      for (const auto& entry : node) {
        const ImplPtr key = convert(entry.first, file, nodes, depth + 1);
        if (key->kind != Impl::Scalar) option_error(OptionNode(key), "a key must be a word");
        if (!keys.insert(key->value).second)
          option_error(OptionNode(key), "key \"" + key->value + "\" is given twice");
        out->entries.emplace_back(key->value, convert(entry.second, file, nodes, depth + 1));
      }
      break;
    }
    default:
      out->kind = Impl::Null;
  }
  return out;
}

ImplPtr parse_yaml(const std::string& text, const std::string& origin) {
  try {
    const YAML::Node node = YAML::Load(text);
    int64_t nodes = 0;
    return convert(node, origin, nodes);
  } catch (const YAML::Exception& error) {
    throw ConfigError(
        fmt::format("{}:{}:{}: {}", origin, error.mark.line + 1, error.mark.column + 1, error.msg));
  }
}

// Entries of `over` win; maps are merged, everything else is replaced.
void merge(Impl& under, const ImplPtr& over) {
  for (const auto& [key, value] : over->entries) {
    ImplPtr* mine = under.find(key);
    if (mine && (*mine)->kind == Impl::Map && value->kind == Impl::Map) merge(**mine, value);
    else if (mine) *mine = value;
    else under.entries.emplace_back(key, value);
  }
}

ImplPtr load_file(const std::string& path, std::set<std::string>& open) {
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  const std::string identity = error ? path : canonical.string();
  FT_CHECK_CONFIG(open.insert(identity).second, "{}: extends itself", path);
  ImplPtr root = parse_yaml(read_text(path), path);
  if (root->kind == Impl::Null) root->kind = Impl::Map;
  if (root->kind != Impl::Map)
    option_error(OptionNode(root), "a configuration is a map of sections");
  ImplPtr* base = root->find("extends");
  if (base) {
    const std::string name = OptionNode(*base).text("extends");
    ImplPtr under = load_file((fs::path(path).parent_path() / name).string(), open);
    std::erase_if(root->entries, [](const auto& e) { return e.first == "extends"; });
    merge(*under, root);
    under->file = root->file;
    root = under;
  }
  open.erase(identity);
  return root;
}

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

// A number with an optional decimal suffix k, M or B.
std::optional<double> parse_number(std::string text) {
  if (text == ".inf" || text == "Infinity" || text == "+.inf")
    return std::numeric_limits<double>::infinity();
  if (text == "-.inf" || text == "-Infinity") return -std::numeric_limits<double>::infinity();
  double scale = 1;
  if (!text.empty()) {
    const char last = text.back();
    scale = last == 'k' ? 1e3 : last == 'M' ? 1e6 : last == 'B' ? 1e9 : 1;
    if (scale != 1) text.pop_back();
  }
  const char* begin = text.c_str() + (!text.empty() && text[0] == '+' ? 1 : 0);
  double value = 0;
  const auto [end, error] = std::from_chars(begin, text.c_str() + text.size(), value);
  if (error != std::errc() || end != text.c_str() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value * scale;
}

}  // namespace

OptionNode::OptionNode() : impl_(std::make_shared<Impl>()) {}

OptionNode OptionNode::load(const std::string& path) {
  std::set<std::string> open;
  return OptionNode(load_file(path, open));
}

OptionNode OptionNode::parse(const std::string& text, const std::string& origin) {
  return OptionNode(parse_yaml(text, origin));
}

void OptionNode::set(const std::string& assignment) {
  const std::string origin = "--set " + assignment;
  const size_t equals = assignment.find('=');
  FT_CHECK_CONFIG(equals != std::string::npos && equals > 0, "{}: expected path.to.key=value",
                  origin);
  const ImplPtr value = parse_yaml(assignment.substr(equals + 1), origin);
  ImplPtr at = impl_;
  std::string path = assignment.substr(0, equals);
  while (true) {
    const size_t dot = path.find('.');
    const std::string key = path.substr(0, dot);
    const bool last = dot == std::string::npos;
    if (at->kind == Impl::List) {
      size_t index = at->items.size();
      std::from_chars(key.data(), key.data() + key.size(), index);
      FT_CHECK_CONFIG(index < at->items.size(),
                      "{}: the list has {} elements; \"{}\" is none of them", origin,
                      at->items.size(), key);
      if (last) at->items[index] = value;
      at = at->items[index];
    } else {
      FT_CHECK_CONFIG(at->kind == Impl::Map || at->kind == Impl::Missing || at->kind == Impl::Null,
                      "{}: \"{}\" lies in a single value, not in a section", origin, key);
      at->kind = Impl::Map;
      ImplPtr* child = at->find(key);
      if (!child) {
        at->entries.emplace_back(key, std::make_shared<Impl>());
        child = &at->entries.back().second;
        (*child)->file = origin;
      }
      if (last) *child = value;
      at = *child;
    }
    if (last) return;
    path = path.substr(dot + 1);
  }
}

bool OptionNode::present() const { return impl_->kind != Impl::Missing; }
bool OptionNode::is_null() const { return impl_->kind == Impl::Null; }
bool OptionNode::is_map() const { return impl_->kind == Impl::Map; }
bool OptionNode::is_list() const { return impl_->kind == Impl::List; }
bool OptionNode::is_scalar() const { return impl_->kind == Impl::Scalar; }
bool OptionNode::quoted() const { return impl_->quoted; }

OptionNode OptionNode::at(const std::string& key) const {
  ImplPtr* found = impl_->find(key);
  return found ? OptionNode(*found) : OptionNode();
}

std::vector<OptionNode> OptionNode::items() const {
  std::vector<OptionNode> out;
  for (const ImplPtr& item : impl_->items) out.push_back(OptionNode(item));
  return out;
}

std::vector<std::string> OptionNode::keys() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : impl_->entries) out.push_back(key);
  return out;
}

std::string OptionNode::where() const {
  if (impl_->file.rfind("--set", 0) == 0) return impl_->file;
  return fmt::format("{}:{}:{}", impl_->file, impl_->line, impl_->column);
}

std::string OptionNode::scalar() const {
  if (impl_->kind != Impl::Scalar) option_error(*this, "a single value was expected");
  return impl_->value;
}

double OptionNode::number(const std::string& option) const {
  // Newer transformers write {"__float__": "Infinity"}.
  if (const ImplPtr* wrapped = impl_->find("__float__")) {
    if (const auto value = parse_number((*wrapped)->value)) return *value;
  }
  const auto value =
      impl_->kind == Impl::Scalar && !impl_->quoted ? parse_number(impl_->value) : std::nullopt;
  if (!value)
    option_error(*this,
                 fmt::format("{} must be a number (for instance 0.1, 1e-3, 64k, 2.5B)", option));
  return *value;
}

int64_t OptionNode::integer(const std::string& option) const {
  const auto value =
      impl_->kind == Impl::Scalar && !impl_->quoted ? parse_number(impl_->value) : std::nullopt;
  if (!value || *value != std::floor(*value) || std::fabs(*value) > 9.0e18)
    option_error(*this,
                 fmt::format("{} must be a whole number (for instance 512, 64k, 10B)", option));
  int64_t exact = 0;  // doubles hold whole numbers up to 2^53; plain digits are read exactly
  const auto [end, error] =
      std::from_chars(impl_->value.data(), impl_->value.data() + impl_->value.size(), exact);
  if (error == std::errc() && end == impl_->value.data() + impl_->value.size()) return exact;
  return static_cast<int64_t>(*value);
}

bool OptionNode::boolean(const std::string& option) const {
  if (impl_->kind == Impl::Scalar && !impl_->quoted) {
    if (impl_->value == "true") return true;
    if (impl_->value == "false") return false;
  }
  option_error(*this, option + " must be true or false");
}

std::string OptionNode::text(const std::string& option) const {
  if (impl_->kind == Impl::Null) return "";
  if (impl_->kind != Impl::Scalar) option_error(*this, option + " must be a text");
  return impl_->value;
}

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
    option_error(node.at(key),
                 fmt::format("unknown key \"{}\"{}; {}", key,
                             section.empty() ? "" : " in section \"" + section + "\"",
                             near.empty() ? fmt::format("known keys: {}", fmt::join(known, ", "))
                                          : "did you mean \"" + near + "\"?"));
  }
}

std::string number_text(double value) {
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  (void)error;
  return std::string(buffer, end);
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
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out + "\"";
}

std::string OptionHelp::limits(const Range& r) {
  if (std::isinf(r.low) && std::isinf(r.high)) return "";
  if (std::isinf(r.high)) return fmt::format("at least {}", r.low);
  return fmt::format("{} to {}", r.low, r.high);
}

void OptionHelp::line(const std::string& option, std::string value, const std::string& help,
                      const std::string& limit) {
  while (!value.empty() && value.back() == '\n') value.pop_back();
  text_ += fmt::format("{:<34} {}\n{:<34} default{}{}\n", option, help, "", value,
                       limit.empty() ? "" : "; " + limit);
}

}  // namespace ft
