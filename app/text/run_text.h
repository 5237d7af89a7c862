// What a run's tokens mean goes with the run, so that it can be used from anywhere and after the
// sets and their tokenizer are gone:
//   RUN/tokenizer.json   a copy (with tokenizer_config.json, where that lies beside it) of the file
//                        that data.tokenizer, the training sets' notes or model.init_from name
//   RUN/text.json        a note as token sets have (data/set_info.h): tokenizer, its hash, the
//                        vocabulary, the id that ends a document
#pragma once

#include "app/config/config.h"
#include "data/set_info.h"
#include "data/text/tokenizer.h"

#include <optional>
#include <string>

namespace ft {

// Throws ConfigError where the weights that the run starts from and a set of its data are known to
// come from different tokenizers.
void check_start_tokenizer(const Config& config);

// Rank 0, when the run's folder is there. Throws ConfigError where the folder holds what an earlier
// life of the run was trained with, and that is another tokenizer.
void keep_run_text(const std::string& run, const Config& config);

std::optional<SetInfo> read_run_text(const std::string& run);
// RUN of RUN/checkpoints/step-00000012; empty where the checkpoint lies elsewhere.
std::string run_of_checkpoint(const std::string& checkpoint);

// A set's note, with the hash of the tokenizer that it names where that can be opened. Nothing
// where the set has no note.
std::optional<SetInfo> known_of_set(const std::string& prefix);
SetInfo known_of(const Tokenizer& tokenizer);
std::string tokenizer_words(const SetInfo& info);  // "bytes", "gpt2/tokenizer.json (50257 tokens)"

}  // namespace ft
