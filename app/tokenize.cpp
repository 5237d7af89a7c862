#include "app/tokenize.h"

#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "data/text_file.h"
#include "data/token_writer.h"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string_view>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int32_t kEndOfDocument = 256;
constexpr int64_t kVocab = 257;
constexpr size_t kLongestSequence =
    size_t{1} << 24;  // longer documents become several sequences: memory stays bounded

std::string extension_of(const std::string& path) {
  const std::string dotted = fs::path(unpacked_name(path)).extension().string();
  return dotted.empty() ? "" : dotted.substr(1);
}

// Files of a folder, sorted; not those that this command writes.
std::vector<std::string> files_of(const std::string& folder, const TokenizeOptions& o) {
  std::vector<fs::path> written;
  for (const char* end : {".bin", ".idx", ".json"})
    written.push_back(fs::weakly_canonical(o.out + end));
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    const auto wanted = [&](const std::string& e) {
      return extension_of(path) == (e.starts_with('.') ? e.substr(1) : e);
    };
    if (!entry.is_regular_file()) continue;
    if (!o.extensions.empty() && std::none_of(o.extensions.begin(), o.extensions.end(), wanted))
      continue;
    if (std::count(written.begin(), written.end(), fs::weakly_canonical(path)) == 0)
      files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  FT_CHECK_CONFIG(!files.empty(), "{}: the folder holds no files{}", folder,
                  o.extensions.empty() ? "" : " with the wanted extensions");
  return files;
}

std::vector<std::string> all_files(const TokenizeOptions& o) {
  std::vector<std::string> files;
  for (const std::string& input : o.inputs) {
    try {
      FT_CHECK_CONFIG(fs::exists(input), "{}: no such file or folder", input);
      const auto found =
          fs::is_directory(input) ? files_of(input, o) : std::vector<std::string>{input};
      files.insert(files.end(), found.begin(), found.end());
    } catch (const fs::filesystem_error& e) {
      throw ConfigError(fmt::format("{}: cannot be read: {}", input, e.what()));
    }
  }
  FT_CHECK_CONFIG(!files.empty(), "tokenize needs inputs: text files, .jsonl files or folders");
  return files;
}

class ByteWriter {
 public:
  explicit ByteWriter(const std::string& out) : writer_(out, kVocab) {}
  void add(std::string_view text) {
    bytes += static_cast<int64_t>(text.size());
    while (!text.empty()) {
      const std::string_view part = text.substr(0, kLongestSequence - row_.size());
      const auto* data = reinterpret_cast<const uint8_t*>(part.data());
      row_.insert(row_.end(), data, data + part.size());
      if (row_.size() == kLongestSequence) flush();
      text.remove_prefix(part.size());
    }
  }
  void end_document() {
    row_.push_back(kEndOfDocument);
    flush();
    writer_.end_document();
    ++documents;
  }
  void finish() { writer_.finish(); }
  int64_t documents = 0, tokens = 0, bytes = 0;

 private:
  void flush() {
    writer_.add_sequence(row_.data(), static_cast<int64_t>(row_.size()));
    tokens += static_cast<int64_t>(row_.size());
    row_.clear();
  }
  TokenWriter writer_;
  std::vector<int32_t> row_;
};

// One line on a terminal, four times a second.
class Progress {
 public:
  explicit Progress(size_t files) : files_(files), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }
  void show(size_t done, const ByteWriter& writer) {
    const auto now = Clock::now();
    if (!terminal_ || now - shown_ < std::chrono::milliseconds(250)) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count(),
                 mega = static_cast<double>(writer.bytes) / 1e6;
    fmt::print(stderr, "\r\033[K{} of {} files, {} documents, {:.1f} MB, {:.1f} MB/s", done, files_,
               writer.documents, mega, mega / std::max(seconds, 1e-3));
    std::fflush(stderr);
  }

 private:
  using Clock = std::chrono::steady_clock;
  size_t files_;
  bool terminal_;
  Clock::time_point begin_ = Clock::now(), shown_{};
};

void add_line(const std::string& file, int64_t number, std::string_view line,
              const std::string& field, ByteWriter& writer) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  json object;
  try {
    object = json::parse(line);
  } catch (const json::exception& e) {
    throw ConfigError(fmt::format("{}:{}: is no JSON: {}", file, number, e.what()));
  }
  FT_CHECK_CONFIG(object.is_object(), "{}:{}: expected a JSON object, found {}", file, number,
                  object.type_name());
  const auto text = object.find(field);
  FT_CHECK_CONFIG(text != object.end() && text->is_string(),
                  "{}:{}: the object has no text in \"{}\"; --field names another", file, number,
                  field);
  writer.add(text->get_ref<const std::string&>());
  writer.end_document();
}

void add_lines(const std::string& path, const std::string& field, ByteWriter& writer,
               const std::function<void()>& show) {
  TextFile file(path);
  std::string rest;  // of a line that a piece cut
  int64_t number = 0;
  for (auto piece = file.read(); !piece.empty(); piece = file.read()) {
    for (size_t end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
      const std::string_view part = piece.substr(0, end);
      if (!rest.empty()) rest += part;
      add_line(path, ++number, rest.empty() ? part : rest, field, writer);
      rest.clear();
      piece.remove_prefix(end + 1);
    }
    rest += piece;
    show();
  }
  add_line(path, ++number, rest, field, writer);
}

}  // namespace

void tokenize(const TokenizeOptions& o) {
  FT_CHECK_CONFIG(!o.out.empty() && o.out.back() != '/',
                  "--out \"{}\": expected a prefix such as data/train", o.out);
  const auto files = all_files(o);
  ByteWriter writer(o.out);
  {
    Progress progress(files.size());
    for (size_t i = 0; i < files.size(); ++i) {
      const auto show = [&] { progress.show(i, writer); };
      if (extension_of(files[i]) == "jsonl") {
        add_lines(files[i], o.field, writer, show);
        continue;
      }
      TextFile file(files[i]);
      for (auto piece = file.read(); !piece.empty(); piece = file.read()) writer.add(piece), show();
      writer.end_document();
    }
  }
  FT_CHECK_CONFIG(writer.documents > 0, "{}: the inputs hold no documents; nothing is written",
                  o.out);
  writer.finish();
  const json about = {{"tokenizer", "bytes"},
                      {"vocab_size", kVocab},
                      {"end_of_document", kEndOfDocument},
                      {"documents", writer.documents},
                      {"tokens", writer.tokens},
                      {"bytes", writer.bytes}};
  write_text(o.out + ".json", about.dump(2) + "\n");
  log_info("{}: {} documents, {} tokens from {} files", o.out, writer.documents, writer.tokens,
           files.size());
}

}  // namespace ft
