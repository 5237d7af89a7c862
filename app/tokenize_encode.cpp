#include "app/tokenize_encode.h"

#include "core/check.h"
#include "data/jsonl.h"
#include "data/text_file.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kPiece = 4 << 20;        // bytes of a large file that one thread takes
constexpr size_t kPart = size_t{1} << 20;  // tokens handed on at once

class Parts {
 public:
  Parts(const std::function<void(Encoded)>& give, bool masked) : give_(give), masked_(masked) {}

  void add(std::string_view text, bool counts = true) {
    const size_t old = part_.tokens.size();
    part_.tokens.resize(old + text.size());
    std::transform(text.begin(), text.end(), part_.tokens.begin() + static_cast<int64_t>(old),
                   [](char c) { return static_cast<uint8_t>(c); });
    if (masked_) part_.mask.resize(part_.tokens.size(), counts);
    part_.text += static_cast<int64_t>(text.size());
  }
  void end_document() {
    part_.tokens.push_back(kByteEndOfDocument);
    if (masked_) part_.mask.push_back(1);
    part_.documents.push_back(part_.tokens.size());
  }
  // Hands on what there is when it is much, or at the end. consumed: of the file, so far.
  void flush(int64_t consumed, bool last = false) {
    if (part_.tokens.size() < kPart && !last) return;
    part_.consumed = consumed - consumed_;
    consumed_ = consumed;
    give_(std::move(part_));
    part_ = Encoded();
  }

 private:
  const std::function<void(Encoded)>& give_;
  bool masked_;
  Encoded part_;
  int64_t consumed_ = 0;
};

void encode_text(const EncodeJob& job, Parts& parts) {
  TextFile file(job.file, job.begin);
  int64_t left = job.end < 0 ? INT64_MAX : job.end - job.begin;
  for (auto piece = file.read(); !piece.empty() && left > 0; piece = file.read()) {
    piece = piece.substr(0, static_cast<size_t>(std::min<int64_t>(left, INT32_MAX)));
    left -= static_cast<int64_t>(piece.size());
    parts.add(piece);
    parts.flush(file.consumed());
  }
  FT_CHECK(job.end < 0 || left == 0, "{}: became shorter while it was read", job.file);
  if (job.end < 0) parts.end_document();
  parts.flush(job.end < 0 ? file.consumed() : job.end - job.begin, true);
}

// Lines that begin before the job's.
int64_t lines_before(const EncodeJob& job) {
  TextFile file(job.file);
  int64_t lines = 0, left = job.begin;
  char last = '\n';
  for (auto piece = file.read(); !piece.empty() && left > 0; piece = file.read()) {
    piece = piece.substr(0, static_cast<size_t>(std::min<int64_t>(left, INT32_MAX)));
    left -= static_cast<int64_t>(piece.size());
    lines += std::count(piece.begin(), piece.end(), '\n');
    last = piece.back();
  }
  return lines + (last != '\n');
}

// The lines of a file from a place on, each followed by the padding that JsonLine asks for.
class Lines {
 public:
  Lines(const std::string& path, int64_t begin) : file_(path, begin), at_(begin) {}
  // The next line, without its newline; false at the end of the file.
  bool next(std::string_view& line) {
    size_t end = buffer_.find('\n', begin_);
    while (end == std::string::npos && !ended_) {
      const size_t seen = size_ - begin_;
      more();
      end = buffer_.find('\n', begin_ + seen);
    }
    if (end == std::string::npos && begin_ == size_) return false;
    const size_t stop = std::min(end, size_);
    line = std::string_view(buffer_).substr(begin_, stop - begin_);
    const size_t after = std::min(stop + 1, size_);
    at_ += static_cast<int64_t>(after - begin_);
    begin_ = after;
    return true;
  }
  int64_t position() const { return at_; }  // of the next line; packed files: of the text
  int64_t consumed() const { return file_.consumed(); }

 private:
  void more() {
    buffer_.resize(size_);
    buffer_.erase(0, begin_);
    begin_ = 0;
    const auto piece = file_.read();
    ended_ = piece.empty();
    buffer_ += piece;
    size_ = buffer_.size();
    buffer_.append(JsonLine::kPadding, ' ');
  }
  TextFile file_;
  std::string buffer_;  // `size_` bytes of text, then the padding
  size_t begin_ = 0, size_ = 0;
  int64_t at_;
  bool ended_ = false;
};

void encode_lines(const EncodeJob& job, const TokenizeOptions& o, Parts& parts) {
  // A line belongs to the piece that its first byte lies in.
  Lines lines(job.file, std::max<int64_t>(0, job.begin - 1));
  std::string_view line;
  if (job.begin > 0) lines.next(line);
  JsonLine parser(o.field, o.prompt_field);
  for (int64_t number = 1; (job.end < 0 || lines.position() < job.end) && lines.next(line);
       ++number) {
    try {
      if (const auto texts = parser.parse(line)) {
        parts.add(texts->prompt, false);
        parts.add(texts->text);
        parts.end_document();
      }
    } catch (const ConfigError& e) {
      throw ConfigError(fmt::format("{}:{}: {}", job.file, lines_before(job) + number, e.what()));
    }
    parts.flush(lines.consumed());
  }
  parts.flush(job.end < 0 ? lines.consumed() : job.end - job.begin, true);
}

}  // namespace

std::string text_extension(const std::string& path) {
  const std::string dotted = fs::path(unpacked_name(path)).extension().string();
  return dotted.empty() ? "" : dotted.substr(1);
}

std::vector<EncodeJob> encode_jobs(const std::string& file) {
  const bool lines = text_extension(file) == "jsonl";
  if (unpacked_name(file) != file || !fs::is_regular_file(file)) return {{file, lines}};
  std::vector<EncodeJob> jobs;
  const auto size = static_cast<int64_t>(fs::file_size(file));
  for (int64_t begin = 0; begin == 0 || begin < size; begin += kPiece)
    jobs.push_back({file, lines, begin, begin + kPiece < size ? begin + kPiece : -1});
  return jobs;
}

void encode(const EncodeJob& job, const TokenizeOptions& options,
            const std::function<void(Encoded)>& give) {
  Parts parts(give, !options.prompt_field.empty());
  if (job.lines) encode_lines(job, options, parts);
  else encode_text(job, parts);
}

}  // namespace ft
