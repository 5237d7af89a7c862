#include "data/text/regex.h"

#include "data/text/regex_syntax.h"
#include "data/text/tokenizer.h"
#include "core/check.h"

#include <pcre2.h>

namespace ft {

namespace {

std::string message_of(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

using Match = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

Match new_match() { return {pcre2_match_data_create(1, nullptr), pcre2_match_data_free}; }

}  // namespace

// ^ and $ mean lines, as in Oniguruma, and a dot is anything but \n.
Regex::Regex(const std::string& pattern)
    : Regex(pattern, pcre2_syntax(pattern), PCRE2_UCP | PCRE2_MULTILINE) {}

Regex Regex::literal(const std::string& text) { return {text, text, PCRE2_LITERAL}; }

Regex::Regex(const std::string& shown, const std::string& translated, unsigned options)
    : shown_(shown) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t at = 0;
  pcre2_code* code = pcre2_compile(units(translated), translated.size(), options | PCRE2_UTF,
                                   &error, &at, context.get());
  FT_CHECK_CONFIG(code, "the regular expression {}: {} (read as {}, byte {})", shown,
                  message_of(error), translated, at);
  code_ = {code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); }};
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it, matching is only slower
}

bool Regex::next(std::string_view text, size_t from, void* match) const {
  const auto search = [&](uint32_t options) {
    return pcre2_match(static_cast<pcre2_code*>(code_.get()), units(text), text.size(), from,
                       options, static_cast<pcre2_match_data*>(match), nullptr);
  };
  int result = search(PCRE2_NO_UTF_CHECK);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = search(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  FT_CHECK(result >= 0 || result == PCRE2_ERROR_NOMATCH,
           "the regular expression {} on a text of {} bytes: {}", shown_, text.size(),
           message_of(result));
  return result >= 0;
}

std::vector<Regex::Part> Regex::split(std::string_view text) const {
  std::vector<Part> parts;
  const Match match = new_match();
  const size_t* found = pcre2_get_ovector_pointer(match.get());
  size_t end = 0;    // of the last match
  bool any = false;  // a match so far
  for (size_t from = 0; from <= text.size() && next(text, from, match.get());) {
    if (found[0] == found[1] && any && found[1] == end) {  // nothing, right behind a match
      from += from < text.size() ? character_bytes(text[from]) : 1;
      continue;
    }
    if (end < found[0]) parts.push_back({end, found[0], false});
    parts.push_back({found[0], found[1], true});
    from = end = found[1];
    any = true;
  }
  if (end < text.size()) parts.push_back({end, text.size(), false});
  return parts;
}

bool Regex::within(std::string_view text) const { return next(text, 0, new_match().get()); }

}  // namespace ft
