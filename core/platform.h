// The only place where the preprocessor asks what this build contains.
#pragma once

namespace ft {
#ifdef FT_WITH_CUDA
inline constexpr bool kBuiltWithCuda = true;
#else
inline constexpr bool kBuiltWithCuda = false;
#endif
}  // namespace ft
