// Numbers for programs: strict JSON, to a file or to standard output.
#pragma once

#include "core/file.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <string>

namespace ft {

inline nlohmann::json finite_or_null(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

// path "-": standard output.
inline void write_json(const std::string& path, const nlohmann::json& value) {
  const std::string text = value.dump(2) + "\n";
  if (path == "-") std::fputs(text.c_str(), stdout);
  else write_text(path, text);
}

}  // namespace ft
