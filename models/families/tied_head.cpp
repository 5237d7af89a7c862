#include "models/families/tied_head.h"

#include "core/check.h"
#include "core/safetensors.h"
#include "models/families/family.h"

#include <algorithm>
#include <optional>

namespace ft {

namespace {

bool equal(const SafetensorsFile& a, const std::string& one, const SafetensorsFile& b,
           const std::string& other) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  if (a.info(one).shape != b.info(other).shape) return false;
  std::vector<float> left(kPiece), right(kPiece);
  for (int64_t at = 0; at < a.info(one).size(); at += kPiece) {
    const int64_t n = std::min(kPiece, a.info(one).size() - at);
    a.read_f32(one, at, n, left.data());
    b.read_f32(other, at, n, right.data());
    if (!std::equal(left.begin(), left.begin() + n, right.begin())) return false;
  }
  return true;
}

// Nothing where there are no weights that could be read; who loads them says why.
std::optional<SafetensorsFolder> weights_of(const std::string& folder) {
  try {
    return SafetensorsFolder(folder);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

void untie_other_head(const std::string& folder, ModelConfig& config,
                      std::vector<std::string>* notes) {
  if (!config.tie_word_embeddings) return;
  const auto weights = weights_of(folder);
  const Family& family = family_of(config);
  const std::string head = family.tensor_name(kHeadName);
  const std::string embedding = family.tensor_name(kEmbeddingName);
  if (!weights || !weights->contains(head) || !weights->contains(embedding)) return;
  if (equal(weights->file_of(head), head, weights->file_of(embedding), embedding)) return;
  config.tie_word_embeddings = false;
  if (notes)
    notes->push_back(fmt::format(
        "{}: config.json ties the head to the embedding, but the weights hold a {} of its own: the "
        "two are not tied, as in transformers (write tie_word_embeddings: false to silence this)",
        folder, head));
}

}  // namespace ft
