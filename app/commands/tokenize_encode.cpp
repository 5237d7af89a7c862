#include "app/commands/tokenize_encode.h"

#include "core/check.h"
#include "data/file_kind.h"
#include "data/jsonl.h"
#include "data/names.h"
#include "data/text_file.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kPiece = 4 << 20;        // bytes of a large file that one thread takes
constexpr size_t kPart = size_t{1} << 20;  // tokens handed on at once
constexpr const char* kSkip = "--skip-bad leaves out what is bad, and counts it";

class Parts {
 public:
  Parts(const Encoding& encoding, const std::function<void(Encoded)>& give)
      : encoding_(encoding), give_(give), masked_(!encoding.options.prompt_field.empty()) {}

  void add(std::string_view text, bool counts = true) {
    if (encoding_.tokenizer) {
      const std::vector<int32_t> ids = encoding_.tokenizer->encode(text);
      part_.ids.insert(part_.ids.end(), ids.begin(), ids.end());
    } else {
      const size_t old = part_.bytes.size();
      part_.bytes.resize(old + text.size());
      std::transform(text.begin(), text.end(), part_.bytes.begin() + static_cast<int64_t>(old),
                     [](char c) { return static_cast<uint8_t>(c); });
    }
    if (masked_) part_.mask.resize(part_.tokens(), counts);
    part_.text += static_cast<int64_t>(text.size());
    open_text_ += static_cast<int64_t>(text.size());
  }
  void end_document() {
    if (encoding_.end) {
      if (encoding_.tokenizer) part_.ids.push_back(*encoding_.end);
      else part_.bytes.push_back(static_cast<uint16_t>(*encoding_.end));
      if (masked_) part_.mask.push_back(1);
    }
    part_.documents.push_back(part_.tokens());
    open_text_ = 0;
  }
  // Takes back what the open document has so far, which must be all here.
  void bad(std::string what) {
    const size_t good = part_.documents.empty() ? 0 : part_.documents.back();
    (encoding_.tokenizer ? part_.ids.resize(good) : part_.bytes.resize(good));
    if (masked_) part_.mask.resize(good);
    part_.text -= std::exchange(open_text_, 0);
    part_.bad.push_back(std::move(what));
  }
  // Hands on what there is when it is much, or at the end. consumed: of the file, so far.
  void flush(int64_t consumed, bool last = false) {
    if (part_.tokens() < kPart && !last) return;
    part_.consumed = consumed - consumed_;
    consumed_ = consumed;
    give_(std::move(part_));
    part_ = Encoded();
  }
  void finish() { flush(consumed_, true); }

 private:
  const Encoding& encoding_;
  const std::function<void(Encoded)>& give_;
  bool masked_;
  Encoded part_;
  int64_t open_text_ = 0, consumed_ = 0;
};

// A byte order mark says nothing in UTF-8.
std::string_view without_mark(std::string_view text) {
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

// Bytes as they come, a piece at a time.
void encode_bytes(const EncodeJob& job, Parts& parts) {
  TextFile file(job.file, job.begin);
  int64_t left = job.end < 0 ? INT64_MAX : job.end - job.begin;
  bool first = job.begin == 0;
  for (auto piece = file.read(); !piece.empty() && left > 0; piece = file.read()) {
    piece = piece.substr(0, static_cast<size_t>(std::min<int64_t>(left, INT32_MAX)));
    left -= static_cast<int64_t>(piece.size());
    parts.add(first ? without_mark(piece) : piece);
    first = false;
    parts.flush(file.consumed());
  }
  FT_CHECK(job.end < 0 || left == 0, "{}: became shorter while it was read", job.file);
  if (job.end < 0) parts.end_document();
  parts.flush(job.end < 0 ? file.consumed() : job.end - job.begin, true);
}

// A text as one: what stands before a place may decide how it is cut.
void encode_whole(const EncodeJob& job, bool utf8, Parts& parts) {
  TextFile file(job.file);
  std::string text;
  for (auto piece = file.read(); !piece.empty(); piece = file.read()) text += piece;
  if (const size_t odd = utf8 ? first_odd_byte(text) : text.npos; odd != text.npos)
    throw ConfigError(fmt::format("{}: is not UTF-8 at byte {}; convert it first (iconv -t UTF-8)",
                                  escaped(job.file), odd));
  parts.add(without_mark(text));
  parts.end_document();
  parts.flush(file.consumed(), true);
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
    move_to(std::min(stop + 1, size_));
    return true;
  }
  // Behind the next newline, or where there is none before `limit`, somewhere behind that.
  void skip(int64_t limit) {
    for (;;) {
      const size_t end = buffer_.find('\n', begin_);
      move_to(end == std::string::npos ? size_ : end + 1);
      if (end != std::string::npos || ended_ || at_ >= limit) return;
      more();
    }
  }
  int64_t position() const { return at_; }  // of the next line; packed files: of the text
  int64_t consumed() const { return file_.consumed(); }

 private:
  void move_to(size_t place) {
    at_ += static_cast<int64_t>(place - begin_);
    begin_ = place;
  }
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
  if (job.begin > 0) lines.skip(job.end < 0 ? INT64_MAX : job.end);
  JsonLine parser(o.field, o.prompt_field);
  int64_t before = -1;  // lines, counted when one is bad
  for (int64_t number = 1; (job.end < 0 || lines.position() < job.end) && lines.next(line);
       ++number) {
    try {
      if (const auto texts = parser.parse(line)) {
        parts.add(texts->prompt, false);
        parts.add(texts->text);
        parts.end_document();
      }
    } catch (const ConfigError& e) {
      if (before < 0) before = lines_before(job);
      const std::string bad =
          fmt::format("{}:{}: {}", escaped(job.file), before + number, e.what());
      FT_CHECK_CONFIG(o.skip_bad, "{}; {}", bad, kSkip);
      parts.bad(bad);
    }
    parts.flush(lines.consumed());
  }
  parts.flush(job.end < 0 ? lines.consumed() : job.end - job.begin, true);
}

// Whole documents only: with --skip-bad one is given when it is known to be good.
bool in_one(const Encoding& e) { return e.tokenizer || e.options.skip_bad; }

}  // namespace

std::vector<EncodeJob> encode_jobs(const std::string& file, const Encoding& encoding) {
  const bool lines = is_json_lines(file);
  if (unpacked_name(file) != file || !fs::is_regular_file(file) || (!lines && in_one(encoding)))
    return {{file, lines}};
  std::vector<EncodeJob> jobs;
  const auto size = static_cast<int64_t>(fs::file_size(file));
  for (int64_t begin = 0; begin == 0 || begin < size; begin += kPiece)
    jobs.push_back({file, lines, begin, begin + kPiece < size ? begin + kPiece : -1});
  return jobs;
}

void encode(const EncodeJob& job, const Encoding& encoding,
            const std::function<void(Encoded)>& give) {
  Parts parts(encoding, give);
  try {
    if (job.lines) encode_lines(job, encoding.options, parts);
    else if (in_one(encoding)) encode_whole(job, encoding.tokenizer != nullptr, parts);
    else encode_bytes(job, parts);
  } catch (const Error& e) {
    if (!encoding.options.skip_bad) {
      const bool said = std::string_view(e.what()).ends_with(kSkip);
      throw Error(said ? e.what() : fmt::format("{}; {}", e.what(), kSkip), e.exit_code());
    }
    parts.bad(fmt::format("{}{}", e.what(), job.lines ? "; the rest of it was left out" : ""));
    parts.finish();
  }
}

}  // namespace ft
