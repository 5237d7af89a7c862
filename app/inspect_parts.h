// What inspect shows of each kind of thing. All print to the standard output; faults are thrown.
#pragma once

#include <string>

namespace ft {

void inspect_tokens(const std::string& prefix, bool verify);
void inspect_safetensors(const std::string& path, bool verify);
void inspect_folder(const std::string& hf_folder, bool verify);
void inspect_checkpoint(const std::string& path, bool verify);
void inspect_run(const std::string& path, bool verify);

}  // namespace ft
