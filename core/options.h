// Strict configuration. Each option is described once, in a function `describe(visitor, struct)`:
//   v("lr", c.lr, "peak learning rate", Range{0, 10});
// Three visitors read the description: OptionReader fills the struct from YAML (an unknown key, a
// wrong type, a value out of range or a key given twice is an error with file, line, column, what
// was expected and the nearest known key), OptionWriter writes the resolved values as YAML,
// OptionHelp prints the reference. null in a file means the default, but for an std::optional it is
// a value: none.
#pragma once

#include "core/check.h"

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace ft {

// Of a number, or of each number in a list. Infinity is refused unless the range has it.
struct Range {
  double low = std::numeric_limits<double>::lowest();
  double high = std::numeric_limits<double>::max();
  bool above = false, below = false;  // the bound itself is out of range
};
std::string limits_text(const Range& range);  // "0 to 1", "at least 1", "" for anything
struct Choices {
  std::vector<std::string> names;
};

// A parsed YAML value; hides the parser.
class OptionNode {
 public:
  struct Impl;
  OptionNode();
  explicit OptionNode(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  // A YAML file with everything beneath it (`extends:`) merged in, or a text. A file whose name ends
  // in .json, and one that load_json reads, is JSON as Python writes it.
  static OptionNode load(const std::string& path);
  static OptionNode load_json(const std::string& path);
  static OptionNode parse(const std::string& text, const std::string& origin);
  // path.to.key=value, as --set takes it; list elements by number (the next number appends). A map
  // is merged into a map, everything else is replaced.
  void set(const std::string& assignment);

  bool present() const;  // false for a missing key
  bool is_null() const;
  bool is_map() const;
  bool is_list() const;
  bool is_scalar() const;
  OptionNode at(const std::string& key) const;
  OptionNode key(const std::string& name) const;         // the key itself, for its place
  OptionNode nearest_to(const std::string& path) const;  // "a.b.c", or the part that is there
  std::vector<OptionNode> items() const;                 // of a list
  std::vector<std::string> keys() const;                 // of a map, in order
  std::string where() const;                             // "file:line:column"
  std::string scalar() const;                            // its text; throws for maps and lists
  std::string folder() const;  // of the file it was read from; of --set: the working folder
  bool same(const std::string& word) const;  // this text

  // Conversions; throw ConfigError naming place, option, and what was expected.
  int64_t integer(const std::string& option) const;
  double number(const std::string& option) const;
  bool boolean(const std::string& option) const;
  std::string text(const std::string& option) const;

 private:
  std::shared_ptr<Impl> impl_;
};

[[noreturn]] void option_error(const OptionNode& node, const std::string& text);
// Throws for a key of `node` that is not known.
void check_keys(const OptionNode& node, const std::string& section,
                const std::vector<std::string>& known);
std::string nearest(const std::string& word,
                    const std::vector<std::string>& known);  // empty when none is near
// Runs `check`; a ConfigError that begins with a setting ("train.tokens: ...") is given the place
// of that setting in `root`.
void with_place(const OptionNode& root, const std::function<void()>& check);
// A number as configurations write it: 12, 1e-3, 64k, 2.5B, .inf; nothing where the text is none.
std::optional<double> plain_number(const std::string& text);
std::optional<int64_t> whole_number(const std::string& text);
std::string number_text(double value);  // shortest text that reads back the same; .inf for infinity
// The same as every YAML reader takes it for a number: YAML 1.1 (PyYAML) wants 1.0e-05, not 1e-05.
std::string yaml_number(double value);

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <class T>
struct IsArray : std::false_type {};
template <class T, size_t N>
struct IsArray<std::array<T, N>> : std::true_type {};

class OptionReader {
 public:
  OptionReader(OptionNode node, std::string section)
      : node_(std::move(node)), section_(std::move(section)) {}

  template <class T, class Limit = Range>
  void operator()(const std::string& name, T& value, const std::string& /*help*/,
                  const Limit& limit = {}) {
    known_.push_back(name);
    const OptionNode node = node_.at(name);
    if (!node.present() || (node.is_null() && !IsOptional<T>::value)) return;  // null: the default
    const std::string option = section_.empty() ? name : section_ + "." + name;
    read(node, option, value, limit);
  }
  // A size that may be left to be worked out (null, auto): 0.
  void derived(const std::string& name, int64_t& value, const std::string& help) {
    const OptionNode node = node_.at(name);
    if (node.is_null() || node.same("auto")) {
      known_.push_back(name);
      value = 0;
    } else {
      (*this)(name, value, help, Range{0, 1e9});
    }
  }
  // For keys that somebody else reads.
  void ignore(const std::string& name) { known_.push_back(name); }
  void finish() const { check_keys(node_, section_, known_); }
  const std::vector<std::string>& known() const { return known_; }

 private:
  template <class T, class Limit>
  void read(const OptionNode& node, const std::string& option, T& value, const Limit& limit) {
    if constexpr (IsOptional<T>::value) {
      if (node.is_null()) value.reset();
      else read(node, option, value.emplace(), limit);
    } else if constexpr (IsArray<T>::value) {
      const auto items = node.items();
      if (!node.is_list() || items.size() != value.size())
        option_error(node, fmt::format("{} must be a list of {}", option, value.size()));
      for (size_t i = 0; i < items.size(); ++i)
        read(items[i], fmt::format("{}[{}]", option, i), value[i], limit);
    } else if constexpr (IsVector<T>::value) {
      if (!node.is_list()) option_error(node, option + " must be a list");
      value.clear();
      const auto items = node.items();
      value.resize(items.size());
      for (size_t i = 0; i < items.size(); ++i)
        read(items[i], fmt::format("{}[{}]", option, i), value[i], limit);
    } else if constexpr (std::is_same_v<T, bool>) {
      value = node.boolean(option);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value = node.text(option);
      check(node, option, value, limit);
    } else if constexpr (std::is_integral_v<T>) {
      const int64_t wide = node.integer(option);
      value = static_cast<T>(wide);
      if (static_cast<int64_t>(value) != wide || (std::is_unsigned_v<T> && wide < 0))
        option_error(node, fmt::format("{} = {} is out of range", option, wide));
      check(node, option, static_cast<double>(value), limit);
    } else if constexpr (std::is_floating_point_v<T>) {
      value = node.number(option);
      check(node, option, value, limit);
    } else {
      if (!node.is_map()) option_error(node, option + " must be a map of settings");
      OptionReader inner(node, option);
      describe(inner, value);
      inner.finish();
    }
  }
  static void check(const OptionNode& node, const std::string& option, double value,
                    const Range& r) {
    if (value < r.low || value > r.high || (r.above && value == r.low) ||
        (r.below && value == r.high)) {
      const std::string limits = limits_text(r);
      option_error(node,
                   fmt::format("{} = {} is out of range; expected {}", option, number_text(value),
                               limits.empty() ? "a finite number" : limits));
    }
  }
  static void check(const OptionNode& node, const std::string& option, const std::string& value,
                    const Choices& c) {
    for (const std::string& name : c.names)
      if (name == value) return;
    std::string names;
    for (const std::string& name : c.names)
      names += (names.empty() ? "" : ", ") + (name.empty() ? "\"\"" : name);
    option_error(
        node, fmt::format("{} = \"{}\" is not known; expected one of: {}", option, value, names));
  }
  static void check(const OptionNode&, const std::string&, const std::string&, const Range&) {}

  OptionNode node_;
  std::string section_;
  std::vector<std::string> known_;
};

class OptionWriter {
 public:
  explicit OptionWriter(int indent = 0) : indent_(indent) {}

  template <class T, class Limit = Range>
  void operator()(const std::string& name, T& value, const std::string& /*help*/,
                  const Limit& = {}) {
    text_ += std::string(static_cast<size_t>(indent_), ' ') + name + ":" + written(value) + "\n";
  }
  void derived(const std::string& name, int64_t& value, const std::string& help) {
    (*this)(name, value, help);
  }
  const std::string& text() const { return text_; }

 private:
  template <class T>
  std::string written(T& value) {
    if constexpr (IsOptional<T>::value) {
      return value ? written(*value) : " null";
    } else if constexpr (IsVector<T>::value || IsArray<T>::value) {
      std::string out = " [";
      for (auto& item : value) {
        std::string one = written(item);
        out += (out.size() > 2 ? "," : "") + one;
      }
      return out + "]";
    } else if constexpr (std::is_same_v<T, bool>) {
      return value ? " true" : " false";
    } else if constexpr (std::is_same_v<T, std::string>) {
      return " " + quote(value);
    } else if constexpr (std::is_integral_v<T>) {
      return fmt::format(" {}", value);
    } else if constexpr (std::is_floating_point_v<T>) {
      return " " + yaml_number(value);
    } else {
      OptionWriter inner(0);
      describe(inner, value);
      return " " + inner.flow();
    }
  }
  std::string flow() const;                           // {a: 1, b: 2}
  static std::string quote(const std::string& text);  // double-quoted YAML

  int indent_;
  std::string text_;
};

// "whole number", "list of 2 numbers", ...; a Choices names its words, a map is "map".
template <class T>
std::string type_text(bool many = false) {
  if constexpr (IsOptional<T>::value) return type_text<typename T::value_type>(many) + " or null";
  else if constexpr (IsArray<T>::value)
    return fmt::format("list{} of {} {}", many ? "s" : "", std::tuple_size_v<T>,
                       type_text<typename T::value_type>(true));
  else if constexpr (IsVector<T>::value)
    return std::string(many ? "lists" : "list") + " of " + type_text<typename T::value_type>(true);
  else if constexpr (std::is_same_v<T, bool>) return "true or false";
  else if constexpr (std::is_same_v<T, std::string>) return many ? "texts" : "text";
  else if constexpr (std::is_integral_v<T>) return many ? "whole numbers" : "whole number";
  else if constexpr (std::is_floating_point_v<T>) return many ? "numbers" : "number";
  else return many ? "maps" : "map";
}

// The map that a setting holds, or holds a list of; void for plain values.
template <class T>
struct InnerMap {
  using type =
      std::conditional_t<std::is_arithmetic_v<T> || std::is_same_v<T, std::string>, void, T>;
};
template <class T>
struct InnerMap<std::vector<T>> : InnerMap<T> {};
template <class T>
struct InnerMap<std::optional<T>> : InnerMap<T> {};
template <class T, size_t N>
struct InnerMap<std::array<T, N>> : InnerMap<T> {};

class OptionHelp {
 public:
  explicit OptionHelp(std::string section, int indent = 0)
      : section_(std::move(section)), indent_(indent) {}

  template <class T, class Limit = Range>
  void operator()(const std::string& name, T& value, const std::string& help,
                  const Limit& limit = {}) {
    OptionWriter writer;
    writer(name, value, help);
    std::string type = type_text<T>();
    if constexpr (std::is_same_v<Limit, Choices>) type = limits(limit);
    else if (!limits_text(limit).empty()) type += ", " + limits_text(limit);
    line(section_ + "." + name, type, writer.text().substr(name.size() + 1), help);
    using Inner = typename InnerMap<T>::type;
    if constexpr (!std::is_void_v<Inner>) {
      Inner inner;
      OptionHelp nested(section_ + "." + name + (IsVector<T>::value ? "[]" : ""), indent_ + 4);
      describe(nested, inner);
      text_ += nested.text();
    }
  }
  void derived(const std::string& name, int64_t& value, const std::string& help) {
    (*this)(name, value, help + " (0, null or auto: worked out)");
  }
  const std::string& text() const { return text_; }

 private:
  static std::string limits(const Choices& c) {
    std::string out;
    for (const std::string& name : c.names)
      out += (out.empty() ? "" : " | ") + (name.empty() ? "\"\"" : name);
    return out;
  }
  void line(const std::string& option, const std::string& type, std::string value,
            const std::string& help);

  std::string section_;
  int indent_;
  std::string text_;
};

}  // namespace ft
