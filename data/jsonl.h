// Lines of JSONL: the texts in their fields.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ft {

class JsonLine {
 public:
  // Bytes after a line that must be readable, whatever they hold.
  static constexpr size_t kPadding = 64;

  // text_field is wanted of every line, and prompt_field where it is not empty.
  JsonLine(std::string text_field, std::string prompt_field);
  ~JsonLine();

  struct Texts {
    std::string_view prompt, text;  // valid until the next call
  };
  // The texts of a line of JSON as Python's json module takes it; nothing where it is blank. Throws
  // ConfigError, which says what is wrong but not where.
  std::optional<Texts> parse(std::string_view line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ft
