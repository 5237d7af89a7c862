// Falcon-H1: attention and Mamba-2 side by side in every layer. The decoder's settings and names are
// its own.
#pragma once

#include "models/families/family.h"

namespace ft {

const Family& falcon_h1();

}  // namespace ft
