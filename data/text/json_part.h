// A part of a JSON file that knows where it stands, so that whatever is wrong with it is named.
#pragma once

#include "core/check.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// All throw ConfigError "FILE: PLACE: ...". The JSON must outlive its parts.
class JsonPart {
 public:
  JsonPart(const nlohmann::json& value, std::string file, std::string place = "");

  const nlohmann::json& value() const { return value_; }
  bool has(const std::string& key) const;  // and it is not null
  JsonPart at(const std::string& key) const;
  std::vector<JsonPart> list(const std::string& key) const;
  std::string text() const;
  int64_t integer() const;
  bool flag(const std::string& key, bool absent) const;
  std::string word(const std::string& key, const std::string& absent) const;
  // Refuses an object that says more than this.
  void only(std::initializer_list<const char*> keys) const;
  [[noreturn]] void refuse(const std::string& what) const;  // what: "X is not supported" and so on

 private:
  const nlohmann::json& value_;
  std::string file_, place_;
};

}  // namespace ft
