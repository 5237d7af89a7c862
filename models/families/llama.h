// Llama: attention, then a gated MLP, in every layer: the decoder's A block with all multipliers 1.
#pragma once

#include "models/families/family.h"

namespace ft {

const Family& llama();

}  // namespace ft
