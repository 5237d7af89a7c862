#include "data/verify.h"

#include "core/check.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace ft {

SetSummary verify_set(const TokenSet& set, const std::optional<SetInfo>& info) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const int64_t vocab =
      info && info->vocab_size > 0 ? info->vocab_size : std::numeric_limits<int64_t>::max();
  SetSummary sum;
  int64_t tokens = 0;
  std::vector<int32_t> ids(kPiece);
  std::vector<uint8_t> counts(set.has_mask() ? kPiece : 0);
  for (int64_t d = 0; d < set.documents(); ++d) {
    const int64_t length = set.document_length(d);
    for (int64_t begin = 0; begin < length; begin += kPiece) {
      const int64_t n = std::min(kPiece, length - begin);
      set.read(d, begin, n, ids.data());
      const int32_t highest = *std::max_element(ids.begin(), ids.begin() + n);
      if (highest >= vocab) {
        const auto bad = std::find_if(ids.begin(), ids.end(), [&](auto id) { return id >= vocab; });
        throw Error(fmt::format(
            "{}.bin: document {}, token {}: id {} is outside the vocabulary of {} that {}.json "
            "names; one of the two is another set's, or the set is damaged",
            set.prefix(), d, begin + (bad - ids.begin()), *bad, vocab, set.prefix()));
      }
      sum.highest = std::max(sum.highest, highest);
      if (!set.has_mask()) continue;
      set.read_mask(d, begin, n, counts.data());
      sum.counted += n - std::count(counts.begin(), counts.begin() + n, 0);
    }
    if (length > 0 && info)
      sum.ended += ids[static_cast<size_t>((length - 1) % kPiece)] == info->end_of_document;
    sum.empty_documents += length == 0;
    sum.longest_document = std::max(sum.longest_document, length);
    tokens += length;
  }
  FT_CHECK(tokens == set.tokens(),
           "{}.idx: its documents have {} tokens, {}.bin has {}; they do not belong together, make "
           "them again",
           set.prefix(), tokens, set.prefix(), set.tokens());
  if (!info) return sum;
  FT_CHECK((info->documents < 0 || info->documents == set.documents()) &&
               (info->tokens < 0 || info->tokens == tokens),
           "{}.json: names {} documents and {} tokens, the set has {} and {}; it is another set's",
           set.prefix(), info->documents, info->tokens, set.documents(), tokens);
  return sum;
}

}  // namespace ft
