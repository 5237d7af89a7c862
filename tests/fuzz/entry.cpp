// libFuzzer's entry of one target; built by FT_FUZZ once a target.
#ifdef FT_FUZZ_TARGET
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ft::fuzz::FT_FUZZ_TARGET(data, size);
  return 0;
}
#endif
