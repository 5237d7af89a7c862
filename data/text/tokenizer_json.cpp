#include "data/text/tokenizer_json.h"

#include "data/text/added_tokens.h"
#include "data/text/bpe.h"
#include "data/text/pre_tokenizer.h"
#include "core/check.h"
#include "core/file.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

[[noreturn]] void refuse_type(const JsonPart& part) {
  part.refuse(fmt::format("type {} is not supported", part.at("type").text()));
}

// Whether the normalizer is NFC; null and an empty Sequence are none.
bool read_normalizer(const JsonPart& part) {
  const std::string type = part.at("type").text();
  if (type == "NFC") return true;
  if (type != "Sequence") refuse_type(part);
  bool nfc = false;
  for (const JsonPart& one : part.list("normalizers")) nfc |= read_normalizer(one);
  return nfc;
}

std::string compose(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 128; }))
    return std::string(text);
  uint8_t* made = nullptr;
  const auto size = utf8proc_map(
      reinterpret_cast<const uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &made, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<uint8_t, decltype(&std::free)> owner(made, std::free);
  FT_CHECK(size >= 0, "NFC of a text of {} bytes: {}", text.size(), utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(made), static_cast<size_t>(size)};
}

// Ids that the post-processor puts before a single text.
std::vector<int32_t> read_prefix(const JsonPart& part) {
  const std::string type = part.at("type").text();
  std::vector<int32_t> ids;
  if (type == "Sequence") {
    for (const JsonPart& one : part.list("processors")) {  // each works on what the last has made
      const std::vector<int32_t> more = read_prefix(one);
      ids.insert(ids.begin(), more.begin(), more.end());
    }
  } else if (type == "TemplateProcessing") {
    for (const JsonPart& one : part.list("single")) {
      if (one.has("Sequence")) return ids;
      const std::string token = one.at("SpecialToken").at("id").text();
      for (const JsonPart& id : part.at("special_tokens").at(token).list("ids"))
        ids.push_back(static_cast<int32_t>(id.integer()));
    }
    part.refuse("\"single\" has no Sequence");
  } else if (type != "ByteLevel") {
    refuse_type(part);
  }
  return ids;
}

void check_decoder(const JsonPart& part) {
  const std::string type = part.at("type").text();
  if (type == "ByteLevel") return;
  const bool sequence = type == "Sequence" && part.list("decoders").size() == 1;
  if (!sequence) refuse_type(part);
  check_decoder(part.list("decoders")[0]);
}

class JsonTokenizer : public Tokenizer {
 public:
  JsonTokenizer(const std::string& file, const json& all)
      : file_(file), bpe_(JsonPart(all, file).at("model")) {
    const JsonPart root(all, file);
    root.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
               "post_processor", "decoder", "model"});
    if (root.has("normalizer")) composes_ = read_normalizer(root.at("normalizer"));
    if (root.has("pre_tokenizer")) pre_tokenize_ = PreTokenizer(root.at("pre_tokenizer"));
    if (!root.has("decoder")) root.refuse("decoder null is not supported (ByteLevel is)");
    check_decoder(root.at("decoder"));
    if (root.has("post_processor")) prefix_ = read_prefix(root.at("post_processor"));
    for (const auto& [token, id] : bpe_.vocabulary()) set(root, id, bytes_of_token(token));
    if (root.has("added_tokens"))
      for (const JsonPart& part : root.list("added_tokens")) add(part);
    for (const int32_t id : prefix_)
      if (id < 0 || id >= vocab_size())
        root.refuse(fmt::format("post_processor: id {} is not in the vocabulary", id));
  }

  std::string name() const override { return file_; }
  int64_t vocab_size() const override { return static_cast<int64_t>(tokens_.size()); }
  const std::vector<int32_t>& prefix() const override { return prefix_; }
  std::string_view token(int64_t id) const override {
    return id >= 0 && id < vocab_size() ? std::string_view(tokens_[static_cast<size_t>(id)].bytes)
                                        : "";
  }
  bool special(int64_t id) const override {
    return id < 0 || id >= vocab_size() || tokens_[static_cast<size_t>(id)].special;
  }

  std::string hash() const override {
    std::map<int64_t, std::string_view> tokens;
    for (const auto& [token, id] : bpe_.vocabulary()) tokens[id] = token;
    for (const auto& [token, id] : added_) tokens[id] = token;
    return vocabulary_hash(tokens);
  }
  int64_t id_of(std::string_view name) const override {
    for (const Vocabulary* tokens : {&added_, &bpe_.vocabulary()})
      if (const auto found = tokens->find(name); found != tokens->end()) return found->second;
    return -1;
  }

  std::vector<int32_t> encode(std::string_view bytes) const override {
    std::vector<int32_t> ids;
    const std::string text = valid_utf8(bytes);
    for (const auto& raw : raw_.split(text)) {
      if (raw.id >= 0) {
        ids.push_back(raw.id);
        continue;
      }
      const std::string normal = normalize(raw.text);
      for (const auto& part : normalized_.split(normal)) {
        if (part.id >= 0) ids.push_back(part.id);
        else
          for (const std::string& piece : pre_tokenize_(part.text)) bpe_.encode(piece, ids);
      }
    }
    return ids;
  }

 private:
  struct Token {
    std::string bytes;
    bool known = false, special = false;
  };

  std::string normalize(std::string_view text) const {
    return composes_ ? compose(text) : std::string(text);
  }

  void set(const JsonPart& part, int32_t id, std::string bytes) {
    if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
    Token& token = tokens_[static_cast<size_t>(id)];
    if (token.known) part.refuse(fmt::format("id {} belongs to two tokens", id));
    token = {std::move(bytes), true, false};
  }

  void add(const JsonPart& part) {
    AddedToken token = read_added_token(part);
    const auto in_model = bpe_.vocabulary().find(token.content);
    if (in_model == bpe_.vocabulary().end()) set(part, token.id, bytes_of_token(token.content));
    else if (in_model->second != token.id)
      part.refuse(fmt::format("token {} has id {} here and {} in the vocabulary", token.content,
                              token.id, in_model->second));
    tokens_[static_cast<size_t>(token.id)].special = token.special;
    added_.emplace(token.content, token.id);
    std::string pattern = token.normalized ? normalize(token.content) : token.content;
    (token.normalized ? normalized_ : raw_).add(std::move(token), std::move(pattern));
  }

  std::string file_;
  Bpe bpe_;
  PreTokenizer pre_tokenize_;
  AddedTokens raw_, normalized_;
  Vocabulary added_;  // names of added tokens to ids
  bool composes_ = false;
  std::vector<int32_t> prefix_;
  std::vector<Token> tokens_;  // by id
};

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path) {
  std::string file = path;
  if (fs::is_directory(path)) file = (fs::path(path) / "tokenizer.json").string();
  FT_CHECK_CONFIG(fs::is_regular_file(file),
                  "{}: there is no such tokenizer.json; name the file, or a folder that holds it",
                  file);
  const json all = json::parse(read_text(file), nullptr, false);
  FT_CHECK_CONFIG(all.is_object(), "{}: is no JSON object, as a tokenizer.json is", file);
  return std::make_unique<JsonTokenizer>(file, all);
}

}  // namespace ft
