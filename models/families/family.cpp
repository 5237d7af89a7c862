#include "models/families/family.h"

#include "core/check.h"
#include "models/families/falcon_h1.h"
#include "models/families/llama.h"

#include <algorithm>

namespace ft {

bool Family::has(const std::string& setting) const {
  return std::find(settings.begin(), settings.end(), setting) != settings.end();
}

std::string Family::tensor_name(std::string name) const {
  for (const auto& [ours, theirs] : names)
    if (const size_t at = name.find(ours); at != std::string::npos)
      name.replace(at, ours.size(), theirs);
  return name;
}

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> all = {&falcon_h1(), &llama()};
  return all;
}

const Family* find_family(const std::string& model_type) {
  for (const Family* family : families())
    if (family->model_type == model_type) return family;
  return nullptr;
}

const Family& family_of(const ModelConfig& model) {
  const Family* family = find_family(model.model_type);
  FT_CHECK_CONFIG(family, "model.model_type: {} is not in this build; expected {}",
                  model.model_type, family_names(" or "));
  return *family;
}

std::string family_names(const std::string& between) {
  std::string text;
  for (const Family* family : families())
    text += (text.empty() ? "" : between) + family->model_type;
  return text;
}

}  // namespace ft
