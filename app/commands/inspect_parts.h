// What inspect shows of each kind of thing. All print to the standard output; faults are thrown.
// In inspect_tokens.cpp (sets) and inspect_weights.cpp (the others).
#pragma once

#include <string>

namespace ft {

// The text of a set is shown with `tokenizer`, or where that is empty with the one the set names.
void inspect_tokens(const std::string& prefix, const std::string& tokenizer, bool verify);
void inspect_safetensors(const std::string& path, bool verify);
void inspect_folder(const std::string& hf_folder, bool verify);
void inspect_checkpoint(const std::string& path, bool verify);
void inspect_run(const std::string& path, bool verify);

}  // namespace ft
