#include "data/text/json_part.h"

#include <algorithm>
#include <string_view>

namespace ft {

using nlohmann::json;

JsonPart::JsonPart(const json& value, std::string file, std::string place)
    : value_(value), file_(std::move(file)), place_(std::move(place)) {}

void JsonPart::refuse(const std::string& what) const {
  throw ConfigError(
      fmt::format("{}: {}{}", file_, place_.empty() ? "" : place_.substr(1) + ": ", what));
}

bool JsonPart::has(const std::string& key) const {
  if (!value_.is_object()) refuse("expected an object");
  const auto found = value_.find(key);
  return found != value_.end() && !found->is_null();
}

JsonPart JsonPart::at(const std::string& key) const {
  if (!has(key)) refuse(fmt::format("\"{}\" is missing", key));
  return {*value_.find(key), file_, place_ + "." + key};
}

std::vector<JsonPart> JsonPart::list(const std::string& key) const {
  const JsonPart all = at(key);
  if (!all.value_.is_array()) all.refuse("expected a list");
  std::vector<JsonPart> parts;
  for (const json& one : all.value_)
    parts.emplace_back(one, file_, fmt::format("{}[{}]", all.place_, parts.size()));
  return parts;
}

std::string JsonPart::text() const {
  if (!value_.is_string()) refuse("expected text");
  return value_.get<std::string>();
}

int64_t JsonPart::integer() const {
  if (!value_.is_number_integer()) refuse("expected a whole number");
  return value_.get<int64_t>();
}

bool JsonPart::flag(const std::string& key, bool absent) const {
  if (!has(key)) return absent;
  const JsonPart part = at(key);
  if (!part.value_.is_boolean()) part.refuse("expected true or false");
  return part.value_.get<bool>();
}

std::string JsonPart::word(const std::string& key, const std::string& absent) const {
  return has(key) ? at(key).text() : absent;
}

void JsonPart::only(std::initializer_list<const char*> keys) const {
  for (const auto& item : value_.items())
    if (std::none_of(keys.begin(), keys.end(), [&](const char* k) { return item.key() == k; }))
      refuse(fmt::format("\"{}\" is not supported", item.key()));
}

}  // namespace ft
