// What the tests of matrix products share.
#pragma once

#include "tests/ops/case.h"

#include "tests/reference/linear.h"

namespace ft::test {

using Multiply = std::function<void(const ops::Gemm&)>;

// Sizes around the edges of every kernel, and sums that are stored between depths and between
// chunks of the right factor, on the backend at work.
void check_gemm_sizes(Dtype in, const Multiply& multiply);

}  // namespace ft::test
