// Small token sets in a folder of their own.
#pragma once

#include "core/check.h"
#include "core/file.h"
#include "data/loader.h"
#include "data/token_writer.h"
#include "data/tokens.h"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace ft::test {

class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> count{0};
    path_ =
        std::filesystem::temp_directory_path() / fmt::format("ft-data-{}-{}", getpid(), count++);
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

using Document = std::vector<int32_t>;

inline void write_set(const std::string& prefix, const std::vector<Document>& documents,
                      int64_t vocab = 100000) {
  TokenWriter writer(prefix, vocab);
  for (const Document& d : documents) {
    if (!d.empty()) writer.add_sequence(d.data(), static_cast<int64_t>(d.size()));
    writer.end_document();
  }
  writer.finish();
}

// What ValidationBatches gives for the same arguments, read to its end.
template <class... A>
std::vector<Batch> all_batches(A&&... a) {
  ValidationBatches batches(std::forward<A>(a)...);
  std::vector<Batch> all;
  while (auto batch = batches.next()) all.push_back(std::move(*batch));
  return all;
}

// Documents of 0 to `longest` tokens, all tokens of the set different: first, first + 1, ...
inline std::vector<Document> numbered_documents(int64_t documents, int64_t longest, int32_t first) {
  std::vector<Document> all;
  uint32_t random = 12345;
  for (int64_t d = 0; d < documents; ++d) {
    random = random * 1664525u + 1013904223u;
    Document document((random >> 8) % static_cast<uint32_t>(longest + 1));
    for (int32_t& id : document) id = first++;
    all.push_back(document);
  }
  return all;
}

inline int64_t count_tokens(const std::vector<Document>& documents) {
  int64_t n = 0;
  for (const Document& d : documents) n += static_cast<int64_t>(d.size());
  return n;
}

inline Document read_document(const TokenSet& set, int64_t d) {
  Document tokens(static_cast<size_t>(set.document_length(d)));
  set.read(d, 0, static_cast<int64_t>(tokens.size()), tokens.data());
  return tokens;
}

}  // namespace ft::test
