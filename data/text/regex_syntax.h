// Oniguruma's syntax, as far as tokenizers use it, written for PCRE2.
#pragma once

#include <string>

namespace ft {

// The same expression for PCRE2 (UTF, UCP, multi-line). Throws ConfigError where PCRE2 has no
// equal.
std::string pcre2_syntax(const std::string& oniguruma);

}  // namespace ft
