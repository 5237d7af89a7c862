#include "app/tokenize.h"

#include "core/file.h"
#include "core/check.h"
#include "core/log.h"
#include "data/text_file.h"
#include "data/tokens.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int32_t kEndOfDocument = 256;
constexpr int64_t kVocab = 257;

std::vector<std::string> all_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    if (fs::is_directory(input)) {
      std::vector<std::string> inside;
      for (const auto& entry : fs::recursive_directory_iterator(input))
        if (entry.is_regular_file()) inside.push_back(entry.path().string());
      std::sort(inside.begin(), inside.end());
      FT_CHECK_CONFIG(!inside.empty(), "{}: the folder holds no files", input);
      files.insert(files.end(), inside.begin(), inside.end());
    } else {
      FT_CHECK_CONFIG(fs::is_regular_file(input), "{}: no such file or folder", input);
      files.push_back(input);
    }
  }
  return files;
}

class ByteWriter {
 public:
  explicit ByteWriter(const std::string& out) : writer_(out, kVocab) {}
  void add(const std::string& text) {
    row_.assign(reinterpret_cast<const uint8_t*>(text.data()), reinterpret_cast<const uint8_t*>(text.data()) + text.size());
    row_.push_back(kEndOfDocument);
    writer_.add_sequence(row_.data(), static_cast<int64_t>(row_.size()));
    writer_.end_document();
    ++documents, tokens += static_cast<int64_t>(row_.size()), bytes += static_cast<int64_t>(text.size());
  }
  void finish() { writer_.finish(); }
  int64_t documents = 0, tokens = 0, bytes = 0;

 private:
  TokenWriter writer_;
  std::vector<int32_t> row_;
};

void add_lines(const std::string& file, const std::string& text, const std::string& field, ByteWriter& writer) {
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json object = json::parse(line, nullptr, false);
    FT_CHECK_CONFIG(object.is_object() && object.contains(field) && object[field].is_string(),
                    "{}:{}: expected a JSON object with a text in \"{}\" (--field names another)", file, number, field);
    writer.add(object[field].get<std::string>());
  }
}

}  // namespace

void tokenize(const TokenizeOptions& o) {
  const auto files = all_files(o.inputs);
  ByteWriter writer(o.out);
  for (size_t i = 0; i < files.size(); ++i) {
    const TextFile file = read_text_file(files[i]);
    if (fs::path(file.inner_name).extension() == ".jsonl") add_lines(files[i], file.text, o.field, writer);
    else writer.add(file.text);
    if ((i + 1) % 1000 == 0) log_info("{} of {} files, {} tokens", i + 1, files.size(), writer.tokens);
  }
  writer.finish();
  write_text(o.out + ".json", json{{"tokenizer", "bytes"}, {"vocab_size", kVocab}, {"end_of_document", kEndOfDocument},
                                   {"documents", writer.documents}, {"tokens", writer.tokens}, {"bytes", writer.bytes}}
                                  .dump(2) + "\n");
  log_info("{}: {} documents, {} tokens from {} files", o.out, writer.documents, writer.tokens, files.size());
}

}  // namespace ft
