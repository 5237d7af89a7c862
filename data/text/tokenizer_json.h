// A Hugging Face tokenizer.json: byte-level BPE of the kinds that GPT-2, Llama 3, Qwen and Falcon
// use. Ids and text are those of the Hugging Face `tokenizers` library, but for characters that one
// of the two does not know: see data/text/regex.h, and its NFC leaves marks newer than Unicode 9
// alone.
#pragma once

#include "data/text/tokenizer.h"

#include <memory>
#include <string>

namespace ft {

// A file, or a folder that holds a tokenizer.json. Throws ConfigError naming file and part where
// something is damaged or not supported: ids that differ from those the model learned would make
// nonsense in silence. Settings of truncation and padding are not followed.
//
// normalizer: null, NFC. pre_tokenizer: ByteLevel, Split, Digits, Punctuation, Whitespace.
// model: BPE. post_processor: null, ByteLevel, TemplateProcessing, of which prefix() is what it
// puts before a text (what it would put behind is left out, for commands continue the text).
// decoder: ByteLevel. Each may be a Sequence of its kinds.
std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& path);

}  // namespace ft
