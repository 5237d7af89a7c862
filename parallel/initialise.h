// Starting values of parameters.
#pragma once

#include "parallel/store.h"

#include <cstdint>

namespace ft {

// Each value is a function of (seed, Hugging Face name, element) alone: fusing, padding and ranks
// change none, nor how many threads make them. Compute copies are refreshed by the caller.
void initialise(Store& store, uint64_t seed, int threads = 1);

}  // namespace ft
