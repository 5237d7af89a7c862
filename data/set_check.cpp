#include "core/check.h"
#include "data/loader.h"
#include "data/names.h"
#include "data/set_info.h"
#include "data/text/tokenizer_json.h"
#include "data/tokens.h"

#include <algorithm>
#include <vector>

namespace ft {

namespace {

// Whether a mask lets a token of [begin, length) of a document count.
bool any_counts(const TokenSet& set, int64_t document, int64_t begin, int64_t length) {
  std::vector<uint8_t> counts;
  for (; begin < length; begin += static_cast<int64_t>(counts.size())) {
    counts.resize(static_cast<size_t>(std::min<int64_t>(length - begin, 1 << 16)));
    set.read_mask(document, begin, static_cast<int64_t>(counts.size()), counts.data());
    if (std::any_of(counts.begin(), counts.end(), [](uint8_t c) { return c != 0; })) return true;
  }
  return false;
}

// A label is a token with one before it, in its document where documents are kept apart.
bool has_label(const TokenSet& set, bool isolate) {
  const int64_t first = isolate ? 1 : 0;
  for (int64_t d = 0; d < set.documents(); ++d) {
    const int64_t length = set.document_length(d);
    if (length > first && (!set.has_mask() || any_counts(set, d, first, length))) return true;
  }
  return false;
}

void check_training(const DataSource& source, const DataConfig& data) {
  const TokenSet set(source.path, access_of(data.read));
  FT_CHECK_CONFIG(set.documents() > 0 && set.tokens() > 0,
                  "data.train: {}: the set has no tokens; leave the source out", source.path);
  FT_CHECK_CONFIG(
      has_label(set, data.isolate_documents),
      "data.train: {}: not one of its {} tokens is a label, so nothing can be learned from it: {}; "
      "leave the source out, or make it again",
      source.path, set.tokens(),
      set.has_mask() ? "its mask leaves all of them out" : "no document has two tokens");
}

void check_validation(const DataSource& source, const DataConfig& data, int64_t vocab,
                      int64_t samples) {
  try {
    ValidationBatches batches(source, data, vocab, samples, 1, 0, 1);
    while (const auto batch = batches.next())
      if (batch->valid > 0) return;
  } catch (const Error& error) {
    throw ConfigError(fmt::format("data.validation: {}", error.what()));
  }
  throw ConfigError(fmt::format(
      "data.validation: {}: no token {} is a label, so it has no loss; its documents are too "
      "short, or its mask leaves them out: leave the set out, or make it again",
      source.path,
      samples > 0 ? fmt::format("of the first {} samples", samples) : "of the whole set"));
}

std::string described(const SetInfo& info) {
  std::string text = info.tokenizer.empty() ? "a tokenizer without a name" : info.tokenizer;
  if (info.vocab_size > 0) text += fmt::format(", vocabulary {}", info.vocab_size);
  if (!info.tokenizer_hash.empty()) text += fmt::format(", hash {}", info.tokenizer_hash);
  return text;
}

// A note, and what it belongs to.
struct Named {
  std::string name;
  SetInfo info;
};

bool alike(const Named& a, const Named& b) {
  return a.info.tokenizer == b.info.tokenizer && a.info.tokenizer_hash == b.info.tokenizer_hash &&
         a.info.vocab_size == b.info.vocab_size;
}

void check_pair(const Named& a, const Named& b) {
  FT_CHECK_CONFIG(
      !other_tokenizer(a.info, b.info),
      "{} and {} do not go together: the first says {}, the second {}, so their ids mean different "
      "text. Take sets of one tokenizer, or make one of them again: falcon-train tokenize "
      "--tokenizer FILE",
      a.name, b.name, described(a.info), described(b.info));
}

}  // namespace

void check_sets(const DataConfig& data, int64_t vocab_size, int64_t validation_sequences) {
  std::vector<Named> named;
  if (!data.tokenizer.empty()) {
    check_name("data.tokenizer", data.tokenizer);
    const auto tokenizer =
        data.tokenizer == "bytes" ? byte_tokenizer() : read_tokenizer_json(data.tokenizer);
    FT_CHECK_CONFIG(tokenizer->vocab_size() <= vocab_size,
                    "data.tokenizer: {} has ids up to {}, model.vocab_size is {}: set it to {} or "
                    "more, or name the tokenizer of the sets",
                    data.tokenizer, tokenizer->vocab_size() - 1, vocab_size,
                    tokenizer->vocab_size());
    named.push_back({"data.tokenizer",
                     {.tokenizer = data.tokenizer,
                      .tokenizer_hash = tokenizer->hash(),
                      .vocab_size = tokenizer->vocab_size()}});
  }
  for (const auto* sources : {&data.train, &data.validation})
    for (const DataSource& source : *sources) {
      const auto info = read_set_info(source.path);
      if (!info) continue;
      FT_CHECK_CONFIG(info->vocab_size <= vocab_size,
                      "{}.json: the set's vocabulary is {} ({}), model.vocab_size is {}: set it to "
                      "{} or more, or take a set of the model's tokenizer",
                      source.path, info->vocab_size, described(*info), vocab_size,
                      info->vocab_size);
      const Named now{source.path, *info};
      for (const Named& before : named) check_pair(before, now);
      if (std::none_of(named.begin(), named.end(), [&](const Named& n) { return alike(n, now); }))
        named.push_back(now);
    }
  for (const DataSource& source : data.train) check_training(source, data);
  for (const DataSource& source : data.validation)
    check_validation(source, data, vocab_size, validation_sequences);
}

}  // namespace ft
