#include "data/set_info.h"

#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace ft {

std::optional<SetInfo> read_set_info(const std::string& prefix) {
  const std::string path = prefix + ".json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  SetInfo info;
  try {
    const auto all = nlohmann::json::parse(read_text(path));
    const auto number = [&](const char* key, int64_t absent) {
      const auto found = all.find(key);
      return found == all.end() || found->is_null() ? absent : found->get<int64_t>();
    };
    info.tokenizer = all.value("tokenizer", "");
    info.vocab_size = number("vocab_size", 0);
    info.end_of_document = number("end_of_document", -1);
    info.documents = number("documents", -1);
    info.tokens = number("tokens", -1);
  } catch (const nlohmann::json::exception& e) {
    throw ConfigError(fmt::format(
        "{}: does not describe a token set: {}; make it again, or remove it", path, e.what()));
  }
  return info;
}

}  // namespace ft
