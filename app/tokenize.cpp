#include "app/tokenize.h"

#include "app/ordered_work.h"
#include "app/tokenize_encode.h"
#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "data/token_writer.h"

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Longer documents become several sequences: readers' memory stays bounded.
constexpr int64_t kLongestSequence = int64_t{1} << 24;

// Files of a folder, sorted; not those that this command writes.
std::vector<std::string> files_of(const std::string& folder, const TokenizeOptions& o) {
  std::vector<fs::path> written;
  for (const char* end : {".bin", ".idx", ".json", ".mask.bin"})
    written.push_back(fs::weakly_canonical(o.out + end));
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    const auto wanted = [&](const std::string& e) {
      return text_extension(path) == (e.starts_with('.') ? e.substr(1) : e);
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

// Writes what was encoded, in order.
class ByteWriter {
 public:
  ByteWriter(const std::string& out, bool masked) : writer_(out, kByteVocab, masked) {}
  void add(const Encoded& part) {
    size_t at = 0;
    for (const size_t end : part.documents) {
      add(part, at, end);
      writer_.end_sequence();
      writer_.end_document();
      open_ = 0, at = end;
    }
    add(part, at, part.tokens.size());
    documents += static_cast<int64_t>(part.documents.size());
    bytes += part.text, consumed += part.consumed;
  }
  void finish() { writer_.finish(); }
  int64_t documents = 0, tokens = 0, bytes = 0;
  int64_t consumed = 0;  // of the files

 private:
  void add(const Encoded& part, size_t begin, size_t end) {
    while (begin < end) {
      if (open_ == kLongestSequence) writer_.end_sequence(), open_ = 0;
      const auto n = std::min(static_cast<int64_t>(end - begin), kLongestSequence - open_);
      writer_.add(part.tokens.data() + begin, n,
                  part.mask.empty() ? nullptr : part.mask.data() + begin);
      begin += static_cast<size_t>(n), open_ += n, tokens += n;
    }
  }
  TokenWriter writer_;
  int64_t open_ = 0;  // tokens of the open sequence
};

// One line four times a second on a terminal, a line every half minute elsewhere.
class Progress {
 public:
  explicit Progress(int64_t total) : total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }
  void show(const ByteWriter& writer) {
    const auto now = Clock::now();
    if (now - shown_ < std::chrono::milliseconds(terminal_ ? 250 : 30000)) return;
    shown_ = now;
    const double mega = static_cast<double>(writer.bytes) / 1e6, rate = mega / elapsed();
    // Of files that have no size, such as pipes, the share is not known.
    const double share =
        total_ > 0 ? static_cast<double>(writer.consumed) / static_cast<double>(total_) : 0;
    std::string line =
        fmt::format("{} documents, {:.1f} MB of text, {:.0f} MB/s", writer.documents, mega, rate);
    if (share > 0 && share <= 1)
      line = fmt::format("{:3.0f}%  {}, {:.0f} s left", 100 * share, line,
                         elapsed() * (1 - share) / share);
    if (terminal_) fmt::print(stderr, "\r\033[K{}", line);
    else log_info("{}", line);
    std::fflush(stderr);
  }
  double elapsed() const {
    return std::max(1e-3, std::chrono::duration<double>(Clock::now() - begin_).count());
  }

 private:
  using Clock = std::chrono::steady_clock;
  int64_t total_;
  bool terminal_;
  Clock::time_point begin_ = Clock::now(), shown_ = begin_;
};

size_t threads_of(const TokenizeOptions& o) {
  FT_CHECK_CONFIG(o.threads >= 0, "--threads {}: expected 0 or more", o.threads);
  const auto cores = static_cast<size_t>(std::max(1u, std::thread::hardware_concurrency()));
  return o.threads > 0 ? static_cast<size_t>(o.threads) : std::min<size_t>(cores, 16);
}

}  // namespace

void tokenize(const TokenizeOptions& o) {
  FT_CHECK_CONFIG(!o.out.empty() && o.out.back() != '/',
                  "--out \"{}\": expected a prefix such as data/train", o.out);
  const auto files = all_files(o);
  std::vector<EncodeJob> jobs;
  int64_t total = 0;
  for (const std::string& file : files) {
    const auto more = encode_jobs(file);
    jobs.insert(jobs.end(), more.begin(), more.end());
    std::error_code no_size;
    const auto size = fs::file_size(file, no_size);
    if (!no_size) total += static_cast<int64_t>(size);
  }
  ByteWriter writer(o.out, !o.prompt_field.empty());
  Progress progress(total);
  {
    OrderedWork<Encoded> work(jobs.size(), threads_of(o),
                              [&](size_t job, const auto& give) { encode(jobs[job], o, give); });
    for (Encoded part; work.take(part);) writer.add(part), progress.show(writer);
  }
  FT_CHECK_CONFIG(writer.documents > 0, "{}: the inputs hold no documents; nothing is written",
                  o.out);
  writer.finish();
  const json about = {{"tokenizer", "bytes"},
                      {"vocab_size", kByteVocab},
                      {"end_of_document", kByteEndOfDocument},
                      {"documents", writer.documents},
                      {"tokens", writer.tokens},
                      {"bytes", writer.bytes}};
  write_text(o.out + ".json", about.dump(2) + "\n");
  log_info("{}: {} documents, {} tokens from {} files in {:.1f} s, {:.0f} MB/s", o.out,
           writer.documents, writer.tokens, files.size(), progress.elapsed(),
           static_cast<double>(writer.bytes) / 1e6 / progress.elapsed());
}

}  // namespace ft
