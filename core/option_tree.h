// The parsed tree behind OptionNode: order of keys, places and quotes are kept. Private to
// core/options*.cpp.
#pragma once

#include "core/options.h"

#include <memory>
#include <string>
#include <vector>

namespace ft {

struct OptionNode::Impl {
  using Ptr = std::shared_ptr<Impl>;
  enum Kind { Missing, Null, Scalar, List, Map } kind = Missing;
  struct Entry {
    std::string name;
    Ptr key, value;  // the key's node knows its place
  };
  std::string file;
  int line = 0, column = 0;
  std::string value;
  bool quoted = false;
  std::vector<Ptr> items;
  std::vector<Entry> entries;

  Entry* find(const std::string& name) {
    for (Entry& entry : entries)
      if (entry.name == name) return &entry;
    return nullptr;
  }
};

// Strict YAML: one document of maps, lists and scalars. Throws ConfigError with place for what it
// refuses: syntax, duplicate keys, anchors, merge keys, tags, nesting beyond 64, bytes that are no
// text.
OptionNode::Impl::Ptr parse_yaml(std::string text, const std::string& origin);

// JSON as Python's json reads it, with NaN, Infinity and -Infinity, into the same tree; a key that is
// given twice is refused, too.
OptionNode::Impl::Ptr parse_json(std::string text, const std::string& origin);

constexpr size_t kMaxDepth = 64;
// UTF-8 without a byte order mark and with \n line ends; throws for bytes that are no text.
std::string clean_text(const std::string& text, const std::string& origin);

// Entries of `over` win; maps are merged, everything else is replaced.
void merge_options(OptionNode::Impl& under, const OptionNode::Impl& over);

}  // namespace ft
