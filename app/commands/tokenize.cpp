#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/commands/tokenize.h"

#include "app/commands/ordered_work.h"
#include "app/commands/tokenize_encode.h"
#include "app/commands/tokenize_inputs.h"
#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "data/names.h"
#include "data/text/end_token.h"
#include "data/text/tokenizer_json.h"
#include "data/token_writer.h"

#include <memory>
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

// Writes what was encoded, in order.
class SetWriter {
 public:
  SetWriter(const std::string& out, int64_t vocab, bool masked) : writer_(out, vocab, masked) {}
  void add(const Encoded& part) {
    size_t at = 0;
    for (const size_t end : part.documents) {
      add_run(part, at, end);
      writer_.end_sequence();
      writer_.end_document();
      open_ = 0, at = end;
    }
    add_run(part, at, part.tokens());
    documents += static_cast<int64_t>(part.documents.size());
    bytes += part.text, consumed += part.consumed;
  }
  void finish() { writer_.finish(); }
  int64_t documents = 0, tokens = 0, bytes = 0;
  int64_t consumed = 0;  // of the files

 private:
  void add_run(const Encoded& part, size_t begin, size_t end) {
    while (begin < end) {
      if (open_ == kLongestSequence) writer_.end_sequence(), open_ = 0;
      const auto n = std::min(static_cast<int64_t>(end - begin), kLongestSequence - open_);
      const uint8_t* mask = part.mask.empty() ? nullptr : part.mask.data() + begin;
      if (part.ids.empty()) writer_.add(part.bytes.data() + begin, n, mask);
      else writer_.add(part.ids.data() + begin, n, mask);
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
  void show(const SetWriter& writer) {
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

// What was left out: a count, and the first few.
class Bad {
 public:
  void add(const std::vector<std::string>& more) {
    for (const std::string& one : more)
      if (++count_ <= kShown) log_warn("left out: {}", one);
  }
  void tell() const {
    if (count_ > kShown) log_warn("and {} more, not shown", count_ - kShown);
    if (count_ > 0) log_warn("{} bad lines or files were left out in all", count_);
  }

 private:
  static constexpr int64_t kShown = 5;
  int64_t count_ = 0;
};

std::unique_ptr<Tokenizer> tokenizer_of(const TokenizeOptions& o) {
  if (o.tokenizer.empty() || o.tokenizer == "bytes") {
    FT_CHECK_CONFIG(o.end_of_document.empty(),
                    "--end-of-document goes with --tokenizer: without it, id {} ends a document",
                    kByteEndOfDocument);
    return nullptr;
  }
  check_name("--tokenizer", o.tokenizer);
  return read_tokenizer_json(o.tokenizer);
}

// PREFIX.json. The tokenizer by its whole path: it is found from any folder.
json note_of(const Encoding& encoding, const SetWriter& writer) {
  json about = {{"tokenizer", "bytes"},
                {"vocab_size", kByteVocab},
                {"end_of_document", encoding.end ? json(*encoding.end) : json(nullptr)},
                {"documents", writer.documents},
                {"tokens", writer.tokens},
                {"bytes", writer.bytes}};
  if (const Tokenizer* tokenizer = encoding.tokenizer) {
    about["tokenizer"] = fs::absolute(tokenizer->name()).lexically_normal().string();
    about["tokenizer_hash"] = tokenizer->hash();
    about["vocab_size"] = tokenizer->vocab_size();
  }
  return about;
}

}  // namespace

void tokenize(const TokenizeOptions& o) {
  FT_CHECK_CONFIG(!o.out.empty() && o.out.back() != '/',
                  "--out \"{}\": expected a prefix such as data/train", o.out);
  const auto files = tokenize_inputs(o);
  const auto tokenizer = tokenizer_of(o);
  const Encoding encoding{o, tokenizer.get(),
                          end_token(tokenizer ? *tokenizer : *byte_tokenizer(), o.end_of_document)};
  std::vector<EncodeJob> jobs;
  int64_t total = 0;
  for (const std::string& file : files) {
    const auto more = encode_jobs(file, encoding);
    jobs.insert(jobs.end(), more.begin(), more.end());
    std::error_code no_size;
    const auto size = fs::file_size(file, no_size);
    if (!no_size) total += static_cast<int64_t>(size);
  }
  SetWriter writer(o.out, tokenizer ? tokenizer->vocab_size() : kByteVocab,
                   !o.prompt_field.empty());
  Bad bad;
  Progress progress(total);
  {
    OrderedWork<Encoded> work(jobs.size(), threads_of(o), [&](size_t job, const auto& give) {
      encode(jobs[job], encoding, give);
    });
    for (Encoded part; work.take(part);) {
      writer.add(part);
      bad.add(part.bad);
      progress.show(writer);
    }
  }
  bad.tell();
  FT_CHECK_CONFIG(writer.documents > 0, "{}: the inputs hold no documents; nothing is written",
                  o.out);
  writer.finish();
  write_text(o.out + ".json", note_of(encoding, writer).dump(2) + "\n");
  log_info("{}: {} documents, {} tokens from {} file{} in {:.1f} s, {:.0f} MB/s", o.out,
           writer.documents, writer.tokens, files.size(), files.size() == 1 ? "" : "s",
           progress.elapsed(), static_cast<double>(writer.bytes) / 1e6 / progress.elapsed());
}

void add_tokenize(CLI::App& app, Run& run) {
  const auto o = std::make_shared<TokenizeOptions>();
  auto* c = app.add_subcommand(
      "tokenize",
      "Text, JSON Lines and folders to a token set (.bin, .idx, .json): one token a byte, or with "
      "a tokenizer.json");
  c->footer(
      "Example: falcon-train tokenize books/ notes.jsonl.gz --out data/train\n"
      "         falcon-train tokenize web.jsonl.zst --tokenizer llama/tokenizer.json --out "
      "data/web\n"
      "A text file is a document; so is a line of .jsonl or .ndjson. Both may be packed (.gz, "
      ".zst). Kinds of tokenizer.json that are refused here (all but byte-level BPE) work with "
      "scripts/prepare_data.py, which writes the same format");
  c->add_option("INPUT", o->inputs, "Files and folders")->required();
  c->add_option("--out", o->out, "Prefix of the files to write")->required()->check(file_name());
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer.json or its folder (byte-level BPE). Default: bytes, one token a byte")
      ->type_name("FILE");
  c->add_option("--end-of-document", o->end_of_document,
                "Token or id that ends each document, or none. Default: what the files beside "
                "the tokenizer.json name")
      ->type_name("TOKEN");
  c->add_option("--field", o->field, "Field of JSONL lines that holds the text")
      ->capture_default_str();
  c->add_option("--prompt-field", o->prompt_field,
                "Field of JSONL lines that goes before the text and is left out of the loss");
  c->add_flag("--skip-bad", o->skip_bad,
              "Leave out bad lines and damaged files, and count them. Default: the first ends "
              "the job");
  c->add_option("--threads", o->threads, "0: as many as cores, at most 16")
      ->transform(whole(0, 4096))
      ->capture_default_str();
  c->callback([o, &run] {
    run = alone([o] {
      tokenize(*o);
      return 0;
    });
  });
}

}  // namespace ft
