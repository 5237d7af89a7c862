// By which a data file is known again, wherever it lies: hashes of its content.
#pragma once

#include "data/data_file.h"

#include <cstdint>

namespace ft {

// Of every byte where a file has up to `whole` bytes; of longer ones the first block, the last, and
// in all 1024 blocks of 4 KiB spread over the file at places that are the same each time.
uint64_t content_hash(const DataFile& file, int64_t whole);

// Of 16 blocks: what the first checkpoints hold.
uint64_t sparse_hash(const DataFile& file);

}  // namespace ft
