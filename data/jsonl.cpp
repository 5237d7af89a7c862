#include "data/jsonl.h"

#include "core/check.h"
#include "data/json_liberties.h"
#include "data/names.h"

#include <nlohmann/json.hpp>
#include <simdjson.h>

namespace ft {

static_assert(JsonLine::kPadding >= simdjson::SIMDJSON_PADDING);

struct JsonLine::Impl {
  std::string text_field, prompt_field;
  simdjson::dom::parser parser;
  nlohmann::json object;  // keeps the texts of the slow way

  // The fast way reads the whole line, so what it accepts is JSON. It declines what it cannot tell.
  bool fast(std::string_view line, Texts& texts) {
    simdjson::dom::object fields;
    if (parser.parse(line.data(), line.size(), false).get(fields) != simdjson::SUCCESS)
      return false;
    bool has_text = false, has_prompt = prompt_field.empty();
    for (const auto field : fields) {  // of a name that occurs twice, the last counts
      if (field.key == text_field) {
        has_text = field.value.get(texts.text) == simdjson::SUCCESS;
        if (!has_text) return false;
      }
      if (!prompt_field.empty() && field.key == prompt_field) {
        has_prompt = field.value.get(texts.prompt) == simdjson::SUCCESS;
        if (!has_prompt) return false;
      }
    }
    return has_text && has_prompt;
  }

  std::string_view text_of(const std::string& field, const char* option) const {
    const auto text = object.find(field);
    FT_CHECK_CONFIG(text != object.end() && text->is_string(),
                    "the object has no text in \"{}\"; {} names another", field, option);
    return text->get_ref<const std::string&>();
  }

  // Slow, but knows what to say; and takes what Python's json takes and the fast way does not: huge
  // numbers, NaN, half a surrogate pair.
  Texts slow(std::string_view line) {
    try {
      object = nlohmann::json::parse(strict_json(line));
    } catch (const nlohmann::json::exception& e) {
      const std::string_view what = e.what();  // "[json...] parse error at line 1, column 3: ..."
      const size_t at = what.find("column ");
      throw ConfigError(fmt::format("is no JSON: {}", escaped(what.substr(at < 80 ? at : 0))));
    }
    FT_CHECK_CONFIG(object.is_object(), "expected a JSON object, found {}", object.type_name());
    Texts texts;
    if (!prompt_field.empty()) texts.prompt = text_of(prompt_field, "--prompt-field");
    texts.text = text_of(text_field, "--field");
    return texts;
  }
};

JsonLine::JsonLine(std::string text_field, std::string prompt_field)
    : impl_(std::make_unique<Impl>()) {
  impl_->text_field = std::move(text_field);
  impl_->prompt_field = std::move(prompt_field);
}
JsonLine::~JsonLine() = default;

std::optional<JsonLine::Texts> JsonLine::parse(std::string_view line) {
  if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);  // a byte order mark
  if (line.find_first_not_of(" \t\r\v\f") == std::string_view::npos) return std::nullopt;
  Texts texts;
  return impl_->fast(line, texts) ? texts : impl_->slow(line);
}

}  // namespace ft
