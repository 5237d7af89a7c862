#include "app/commands/inspect_parts.h"
#include "app/run/metrics.h"
#include "app/text/model_text.h"
#include "core/check.h"
#include "data/verify.h"

#include <algorithm>
#include <cstdio>

namespace ft {

namespace {

constexpr int64_t kSample = 64;

// Text as a terminal may show it on one line: control characters are written \\xNN.
std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '\n') shown += "\\n";
    else if (byte < 32 || byte == 127) shown += fmt::format("\\x{:02x}", byte);
    else shown += c;
  }
  return shown;
}

// Also the names of special tokens. The last character of a text that goes on may be incomplete.
std::string decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool goes_on) {
  Utf8Stream stream;
  std::string text;
  for (const int32_t id : ids)
    for (const char c : tokenizer.token(id)) text += stream.add(static_cast<uint8_t>(c));
  return goes_on ? text : text + stream.finish();
}

void print_text(const std::string& prefix, const std::optional<SetInfo>& info,
                const std::string& option, const std::vector<int32_t>& ids, bool goes_on) {
  std::unique_ptr<Tokenizer> tokenizer;
  const char* label = "text ";
  if (!option.empty()) {
    tokenizer = open_tokenizer(option);
  } else if (info && !info->tokenizer.empty()) {
    try {
      tokenizer = tokenizer_of_set(prefix, info->tokenizer);
    } catch (const ConfigError& error) {
      fmt::print("  no text   {}\n", error.what());
    }
  } else if (!info && std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id <= 256; })) {
    tokenizer = byte_tokenizer();
    label = "bytes";
  }
  if (tokenizer)
    fmt::print("  as {}  {}{}\n", label, printable(decoded(*tokenizer, ids, goes_on)),
               goes_on ? "..." : "");
}

void print_sample(const std::string& prefix, const TokenSet& set,
                  const std::optional<SetInfo>& info, const std::string& tokenizer) {
  int64_t d = 0;  // the first that is not empty, of the first thousand
  while (d < std::min<int64_t>(set.documents() - 1, 1000) && set.document_length(d) == 0) ++d;
  if (set.documents() == 0 || set.document_length(d) == 0) return;
  std::vector<int32_t> ids(static_cast<size_t>(std::min(set.document_length(d), kSample)));
  set.read(d, 0, static_cast<int64_t>(ids.size()), ids.data());
  const bool cut = set.document_length(d) > kSample;
  fmt::print("  document {} {} {}{}\n", d, cut ? "begins" : "is", fmt::join(ids, " "),
             cut ? " ..." : "");
  print_text(prefix, info, tokenizer, ids, cut);
  if (!set.has_mask()) return;
  std::vector<uint8_t> counts(ids.size());
  set.read_mask(d, 0, static_cast<int64_t>(ids.size()), counts.data());
  std::string marks;
  for (const uint8_t c : counts) marks += c ? '1' : '0';
  fmt::print("  its mask  {}{}\n", marks, cut ? "..." : "");
}

}  // namespace

void inspect_tokens(const std::string& prefix, const std::string& tokenizer, bool verify) {
  const TokenSet set(prefix);
  const auto info = read_set_info(prefix);
  fmt::print("token set {}\n  documents {}\n  sequences {}\n  tokens    {} ({})\n", prefix,
             grouped_count(set.documents()), grouped_count(set.sequences()),
             grouped_count(set.tokens()), set.dtype_name());
  if (info) {
    fmt::print("  tokenizer {}, vocabulary {}, ",
               info->tokenizer.empty() ? "not named" : info->tokenizer,
               info->vocab_size > 0 ? std::to_string(info->vocab_size) : "not named");
    fmt::print("end of document {}\n",
               info->end_of_document >= 0 ? std::to_string(info->end_of_document) : "not marked");
  }
  if (set.has_mask()) fmt::print("  mask      {}.mask.bin\n", prefix);
  print_sample(prefix, set, info, tokenizer);
  std::fflush(stdout);
  if (!verify) return;
  const SetSummary sum = verify_set(set, info);
  fmt::print("  verified  every token read: highest id {}, longest document {}, empty documents {}",
             sum.highest, grouped_count(sum.longest_document), grouped_count(sum.empty_documents));
  if (info && info->end_of_document >= 0)
    fmt::print(", {} of {} documents end with {}", grouped_count(sum.ended),
               grouped_count(set.documents()), info->end_of_document);
  if (set.has_mask())
    fmt::print(", {} of {} tokens count in the loss", grouped_count(sum.counted),
               grouped_count(set.tokens()));
  fmt::print("\n");
}

}  // namespace ft
