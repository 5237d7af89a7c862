// The tree: files with what they extend, settings of the command line, access.
#include "core/option_tree.h"

#include "core/file.h"
#include "core/path.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

using Impl = OptionNode::Impl;
constexpr uintmax_t kMaxFile = 16 << 20;

Impl::Ptr read_file(const std::string& path) {
  FT_CHECK_CONFIG(exists(path), "{}: no such file", path);
  FT_CHECK_CONFIG(!is_folder(path), "{}: is a folder; a YAML file is expected", path);
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  FT_CHECK_CONFIG(error || bytes <= kMaxFile,
                  "{}: {} bytes; a configuration has at most 16 MiB. Is this the right file?", path,
                  bytes);
  std::string text;
  try {
    text = read_text(path);
  } catch (const Error& failure) {
    throw ConfigError(failure.what());
  }
  Impl::Ptr root = parse_yaml(std::move(text), path);
  if (root->kind == Impl::Null) root->kind = Impl::Map;
  if (root->kind != Impl::Map)
    option_error(OptionNode(root), "a configuration is a map of sections (run:, model:, ...)");
  return root;
}

// `open`: the files that are being read, outermost first.
// One name for a file, however it is written; the name itself where the disk has no answer.
std::string canonical(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(path, error);
  return error ? path : whole.string();
}

Impl::Ptr load_file(const std::string& path, std::vector<std::string>& open) {
  Impl::Ptr root = read_file(path);
  const Impl::Entry* base = root->find("extends");
  if (!base) return root;
  const OptionNode place(base->value);
  if (!place.is_scalar() || place.scalar().empty())
    option_error(place, "extends must name one YAML file, relative to this one");
  const std::string target = (fs::path(path).parent_path() / place.scalar()).string();
  if (!is_file(target))
    option_error(place, fmt::format("extends: {} does not exist (relative paths start from the "
                                    "folder of this file)",
                                    target));
  open.push_back(canonical(path));
  if (std::count(open.begin(), open.end(), canonical(target)))
    option_error(place, fmt::format("extends: {} is extended in a circle", target));
  const Impl::Ptr under = load_file(target, open);
  open.pop_back();
  std::erase_if(root->entries, [](const auto& e) { return e.name == "extends"; });
  merge_options(*under, *root);
  under->file = root->file, under->line = root->line, under->column = root->column;
  return under;
}

// The child of `at` that one step of a --set path names; made where it is missing.
Impl::Ptr& step_into(Impl& at, const std::string& key, const std::string& origin) {
  FT_CHECK_CONFIG(!key.empty(), "{}: expected path.to.key=value; a part of the path is empty",
                  origin);
  size_t index = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  const bool number = error == std::errc() && end == key.data() + key.size();
  const bool empty = at.kind == Impl::Missing || at.kind == Impl::Null;
  if (empty) at.kind = number ? Impl::List : Impl::Map;
  FT_CHECK_CONFIG(at.kind == Impl::Map || at.kind == Impl::List,
                  "{}: \"{}\" would lie in a single value ({}), not in a section", origin, key,
                  at.value);
  auto made = std::make_shared<Impl>();
  made->file = origin;
  if (at.kind == Impl::List) {
    FT_CHECK_CONFIG(number && index <= at.items.size(),
                    "{}: the list has {} elements; \"{}\" is none of them, nor the next one",
                    origin, at.items.size(), key);
    if (index == at.items.size()) at.items.push_back(made);
    return at.items[index];
  }
  if (Impl::Entry* entry = at.find(key)) return entry->value;
  at.entries.push_back({key, made, std::make_shared<Impl>(*made)});
  return at.entries.back().value;
}

}  // namespace

void merge_options(Impl& under, const Impl& over) {
  for (const auto& [name, key, value] : over.entries) {
    Impl::Entry* mine = under.find(name);
    if (mine && mine->value->kind == Impl::Map && value->kind == Impl::Map)
      merge_options(*mine->value, *value);
    else if (mine) *mine = {name, key, value};
    else under.entries.push_back({name, key, value});
  }
}

OptionNode::OptionNode() : impl_(std::make_shared<Impl>()) {}

OptionNode OptionNode::load(const std::string& path) {
  std::vector<std::string> open;
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
  const Impl::Ptr value = parse_yaml(assignment.substr(equals + 1), origin);
  const std::string path = assignment.substr(0, equals);
  FT_CHECK_CONFIG(std::count(path.begin(), path.end(), '.') < 64, "{}: the path is too long",
                  origin);
  FT_CHECK_CONFIG(path != "extends", "{}: extends belongs into the file", origin);
  Impl* at = impl_.get();
  for (size_t begin = 0;;) {
    const size_t dot = path.find('.', begin);
    Impl::Ptr& child = step_into(*at, path.substr(begin, dot - begin), origin);
    if (dot == std::string::npos) {
      if (child->kind == Impl::Map && value->kind == Impl::Map) merge_options(*child, *value);
      else child = value;
      return;
    }
    at = child.get();
    begin = dot + 1;
  }
}

bool OptionNode::present() const { return impl_->kind != Impl::Missing; }
bool OptionNode::is_null() const { return impl_->kind == Impl::Null; }
bool OptionNode::is_map() const { return impl_->kind == Impl::Map; }
bool OptionNode::is_list() const { return impl_->kind == Impl::List; }
bool OptionNode::is_scalar() const { return impl_->kind == Impl::Scalar; }

OptionNode OptionNode::at(const std::string& key) const {
  const Impl::Entry* found = impl_->find(key);
  return found ? OptionNode(found->value) : OptionNode();
}

OptionNode OptionNode::key(const std::string& name) const {
  const Impl::Entry* found = impl_->find(name);
  return found ? OptionNode(found->key) : OptionNode();
}

OptionNode OptionNode::nearest_to(const std::string& path) const {
  OptionNode at = *this;
  for (size_t begin = 0; begin < path.size();) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string name = path.substr(begin, dot - begin);
    OptionNode child = at.at(name);
    size_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    if (at.is_list() && error == std::errc() && index < at.impl_->items.size())
      child = OptionNode(at.impl_->items[index]);
    if (!child.present()) break;
    at = child;
    begin = dot + 1;
  }
  return at;
}

std::vector<OptionNode> OptionNode::items() const {
  std::vector<OptionNode> out;
  for (const Impl::Ptr& item : impl_->items) out.push_back(OptionNode(item));
  return out;
}

std::vector<std::string> OptionNode::keys() const {
  std::vector<std::string> out;
  for (const Impl::Entry& entry : impl_->entries) out.push_back(entry.name);
  return out;
}

std::string OptionNode::where() const {
  if (impl_->line == 0 || impl_->file.rfind("--set", 0) == 0) return impl_->file;
  return fmt::format("{}:{}:{}", impl_->file, impl_->line, impl_->column);
}

std::string OptionNode::folder() const {
  return impl_->file.rfind("--set", 0) == 0 ? "" : fs::path(impl_->file).parent_path().string();
}

}  // namespace ft
