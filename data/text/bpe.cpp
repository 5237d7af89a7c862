#include "data/text/bpe.h"

#include "data/text/tokenizer.h"

#include <atomic>
#include <queue>
#include <tuple>
#include <utility>

namespace ft {

namespace {

constexpr size_t kLongestKept = 64, kMostKept = size_t{1} << 16;

// The ids of pieces that a thread met, of one Bpe.
struct Kept {
  uint64_t owner = 0;
  std::unordered_map<std::string, std::vector<int32_t>, TextHash, std::equal_to<>> pieces;
};

uint64_t next_serial() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

Bpe::Bpe(const JsonPart& model) : serial_(next_serial()) {
  const std::string type = model.word("type", "BPE");
  if (type != "BPE") model.refuse(fmt::format("type {} is not supported (BPE is)", type));
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.has("dropout") && model.value()["dropout"] != 0)
    model.refuse("dropout is not supported");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.word(affix, "").empty()) model.refuse(fmt::format("{} is not supported", affix));
  if (model.flag("byte_fallback", false)) model.refuse("byte_fallback is not supported");
  ignore_merges_ = model.flag("ignore_merges", false);
  fuse_unknown_ = model.flag("fuse_unk", false);
  read_vocabulary(model);
  read_merges(model);
  if (!model.has("unk_token")) return;
  const auto unknown = vocabulary_.find(model.at("unk_token").text());
  if (unknown == vocabulary_.end()) model.at("unk_token").refuse("is not in the vocabulary");
  unknown_ = unknown->second;
}

void Bpe::read_vocabulary(const JsonPart& model) {
  const JsonPart vocab = model.at("vocab");
  if (!vocab.value().is_object()) vocab.refuse("expected an object of tokens and their ids");
  vocabulary_.reserve(vocab.value().size());
  for (const auto& [token, id] : vocab.value().items()) {
    if (!id.is_number_integer() || id < 0 || id > kHighestTokenId)
      vocab.refuse(fmt::format("{} of token {} is no id", id.dump(), token));
    vocabulary_.emplace(token, id.get<int32_t>());
  }
}

void Bpe::read_merges(const JsonPart& model) {
  const std::vector<JsonPart> merges = model.list("merges");
  merges_.reserve(merges.size());
  const auto id_of = [&](const JsonPart& merge, const std::string& token) {
    const auto found = vocabulary_.find(token);
    if (found == vocabulary_.end())
      merge.refuse(fmt::format("token {} is not in the vocabulary", token));
    return found->second;
  };
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const nlohmann::json& pair = merges[rank].value();
    std::string left, right;
    if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
      left = pair[0], right = pair[1];
    } else {
      const std::string text = merges[rank].text();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        merges[rank].refuse("expected two tokens with a space between them");
      left = text.substr(0, space), right = text.substr(space + 1);
    }
    const int32_t first = id_of(merges[rank], left), second = id_of(merges[rank], right),
                  both = id_of(merges[rank], left + right);
    merges_[key(first, second)] = {static_cast<int32_t>(rank), both};
  }
}

std::vector<int32_t> Bpe::characters(std::string_view piece) const {
  std::vector<int32_t> ids;
  bool unknown = false;  // the last one was
  for (size_t at = 0; at < piece.size();) {
    const size_t n = character_bytes(piece[at]);
    const auto found = vocabulary_.find(piece.substr(at, n));
    at += n;
    if (found != vocabulary_.end()) ids.push_back(found->second);
    else if (unknown_ >= 0 && !(unknown && fuse_unknown_)) ids.push_back(unknown_);
    unknown = found == vocabulary_.end();
  }
  return ids;
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (ignore_merges_)
    if (const auto whole = vocabulary_.find(piece); whole != vocabulary_.end()) {
      ids.push_back(whole->second);
      return;
    }
  if (piece.size() > kLongestKept) {
    std::vector<int32_t> symbols = characters(piece);
    merge(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
    return;
  }
  // Most pieces are words that come again and again.
  thread_local Kept kept;
  if (kept.owner != serial_ || kept.pieces.size() >= kMostKept) kept = {serial_, {}};
  auto found = kept.pieces.find(piece);
  if (found == kept.pieces.end()) {
    std::vector<int32_t> symbols = characters(piece);
    merge(symbols);
    found = kept.pieces.emplace(std::string(piece), std::move(symbols)).first;
  }
  ids.insert(ids.end(), found->second.begin(), found->second.end());
}

// The pair of lowest rank, the first of equals, becomes one, again and again. Candidates wait in a
// queue; one whose neighbours have changed since is known by its result and dropped.
void Bpe::merge(std::vector<int32_t>& ids) const {
  struct Candidate {
    int32_t rank, at, id;
    bool operator<(const Candidate& o) const { return std::tie(rank, at) > std::tie(o.rank, o.at); }
  };
  const auto n = static_cast<int32_t>(ids.size());
  std::vector<int32_t> before(ids.size()), after(ids.size());
  for (int32_t i = 0; i < n; ++i) before[i] = i - 1, after[i] = i + 1;
  const auto find = [&](int32_t at) {
    return after[at] < n ? merges_.find(key(ids[at], ids[after[at]])) : merges_.end();
  };
  std::priority_queue<Candidate> queue;
  const auto consider = [&](int32_t at) {
    if (const auto merge = find(at); merge != merges_.end())
      queue.push({merge->second.rank, at, merge->second.id});
  };
  for (int32_t i = 0; i + 1 < n; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    if (ids[top.at] < 0) continue;  // it went into its left neighbour
    if (const auto merge = find(top.at); merge == merges_.end() || merge->second.id != top.id)
      continue;
    const int32_t right = after[top.at];
    ids[top.at] = top.id;
    ids[right] = -1;
    after[top.at] = after[right];
    if (after[right] < n) before[after[right]] = top.at;
    if (before[top.at] >= 0) consider(before[top.at]);
    consider(top.at);
  }
  std::erase(ids, -1);
}

}  // namespace ft
