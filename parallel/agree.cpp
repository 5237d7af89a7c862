#include "parallel/agree.h"

#include "core/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace ft {

namespace {

constexpr char kEnd = '\0';  // of a fact's name and of its text, on their way
constexpr size_t kShown = 160;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

size_t indent_of(const std::string& line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

// "lr" of "  lr: 0.001"; an item of a list is named by its number.
std::string key_of(const std::vector<std::string>& lines, size_t at) {
  const size_t indent = indent_of(lines[at]), colon = lines[at].find(": ");
  const size_t end = colon == std::string::npos ? lines[at].find_last_not_of(':') + 1 : colon;
  return lines[at].substr(indent, end - indent);
}

bool is_item(const std::string& line) { return line.compare(indent_of(line), 2, "- ") == 0; }

// The keys that lead to a line of a YAML map: "data.train.1.path".
std::string path_of(std::vector<std::string> lines, size_t at) {
  std::string path;
  size_t below = std::string::npos;
  for (size_t i = at + 1; i-- > 0;) {
    const size_t indent = indent_of(lines[i]);
    if (indent >= below) continue;
    if (is_item(lines[i])) {
      size_t number = 0;
      for (size_t j = i; j-- > 0 && indent_of(lines[j]) >= indent;)
        number += indent_of(lines[j]) == indent && is_item(lines[j]);
      lines[i].replace(indent, 2, "  ");
      const std::string key = i == at ? "." + key_of(lines, i) : "";
      path = fmt::format("{}{}{}{}", number, key, path.empty() ? "" : ".", path);
    } else {
      path = key_of(lines, i) + (path.empty() ? "" : "." + path);
    }
    below = indent;
  }
  return path;
}

std::string value_of(const std::string& line) {
  const size_t colon = line.find(": ");
  return line.substr(colon == std::string::npos ? indent_of(line) : colon + 2);
}

std::string joined(const std::vector<Fact>& facts) {
  std::string all;
  for (const Fact& fact : facts) all += fact.name + kEnd + fact.text + kEnd;
  return all;
}

// name and text of the n-th fact, or empty ones.
std::pair<std::string, std::string> fact_of(const std::string& all, size_t n) {
  size_t at = 0;
  for (; n > 0 && at < all.size(); --n)
    for (int part = 0; part < 2; ++part) at = all.find(kEnd, at) + 1;
  if (at >= all.size()) return {};
  const size_t name = all.find(kEnd, at), text = all.find(kEnd, name + 1);
  return {all.substr(at, name - at), all.substr(name + 1, text - name - 1)};
}

}  // namespace

void Digest::add(const void* data, size_t bytes) {
  hash_ = XXH3_64bits_withSeed(data, bytes, hash_);
}
std::string Digest::text() const { return fmt::format("{:016x}", hash_); }

std::string difference(const std::string& first, const std::string& other, int rank) {
  const std::vector<std::string> a = lines_of(first), b = lines_of(other);
  size_t at = 0;
  while (at < a.size() && at < b.size() && a[at] == b[at]) ++at;
  const auto of = [&](const std::vector<std::string>& lines) {
    return at < lines.size() ? lines[at] : "";
  };
  const std::string one = of(a), two = of(b);
  const bool same_key = at < a.size() && at < b.size() && path_of(a, at) == path_of(b, at) &&
                        one.find(": ") != std::string::npos;
  std::string x = same_key ? value_of(one) : one, y = same_key ? value_of(two) : two;
  // Of long lines the part from a little before the difference on.
  const auto differ = static_cast<size_t>(
      std::mismatch(x.begin(), x.begin() + static_cast<int64_t>(std::min(x.size(), y.size())),
                    y.begin())
          .first -
      x.begin());
  const size_t from = differ > kShown / 2 ? differ - kShown / 4 : 0;
  for (std::string* text : {&x, &y}) {
    const bool cut = text->size() > from + kShown;
    *text = (from > 0 ? "..." : "") + text->substr(std::min(from, text->size()), kShown) +
            (cut ? "..." : "");
    if (text->empty()) *text = "nothing";
  }
  return fmt::format("{}{} on rank 0, {} on rank {}", same_key ? path_of(a, at) + ": " : "", x, y,
                     rank);
}

void agree(Group& group, const std::vector<Fact>& facts) {
  if (group.size() == 1) return;
  const std::string mine = joined(facts);
  auto hash = static_cast<int64_t>(XXH3_64bits(mine.data(), mine.size()));
  std::vector<int64_t> hashes(static_cast<size_t>(group.size()));
  group
      .all_gather(Tensor(hashes.data(), Dtype::I64, {group.size()}), Tensor(&hash, Dtype::I64, {1}))
      .wait();
  if (std::all_of(hashes.begin(), hashes.end(), [&](int64_t h) { return h == hashes[0]; })) return;
  const std::vector<std::string> all = gather_text(group, mine);
  for (size_t n = 0; n < facts.size(); ++n) {
    const auto first = fact_of(all[0], n);
    for (size_t r = 1; r < all.size(); ++r) {
      const auto other = fact_of(all[r], n);
      if (other == first) continue;
      throw SharedError(
          fmt::format("the ranks differ in their {}: {}; {}", facts[n].name,
                      difference(first.second, other.second, static_cast<int>(r)), facts[n].fix),
          2);
    }
  }
  throw SharedError("the ranks differ in what they know of the run; start the same executable", 2);
}

}  // namespace ft
