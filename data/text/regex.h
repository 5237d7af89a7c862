// Regular expressions as tokenizer.json holds them (Oniguruma's syntax, Unicode classes), on PCRE2,
// which may know an older Unicode: 10.42 takes letters assigned after Unicode 14 for none.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

class Regex {
 public:
  // Throws ConfigError that begins with the pattern: what is wrong with it, or what in it PCRE2
  // does not have or would read otherwise.
  explicit Regex(const std::string& pattern);
  static Regex literal(const std::string& text);

  struct Part {
    size_t begin, end;
    bool match;
  };
  // The text (valid UTF-8) in order, cut into matches and what lies between them.
  std::vector<Part> split(std::string_view text) const;
  // Whether it matches somewhere.
  bool within(std::string_view text) const;

 private:
  Regex(const std::string& shown, const std::string& translated, unsigned options);
  // The first match at or after `from`.
  bool next(std::string_view text, size_t from, void* match) const;

  std::string shown_;
  std::shared_ptr<void> code_;
};

}  // namespace ft
