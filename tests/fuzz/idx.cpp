#include "core/check.h"
#include "data/tokens.h"
#include "tests/fuzz/targets.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

namespace ft::fuzz {

namespace fs = std::filesystem;

// The first byte says how many of the next are the .bin; the rest is the .idx.
void idx(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const size_t tokens = std::min<size_t>(data[0], size - 1);
  const std::string bin = memory_file(0, data + 1, tokens);
  const std::string index = memory_file(1, data + 1 + tokens, size - 1 - tokens);
  static const std::string prefix = [&] {
    const std::string path = (fs::temp_directory_path() / fmt::format("ft-fuzz-{}", ::getpid()));
    fs::create_symlink(bin, path + ".bin");
    fs::create_symlink(index, path + ".idx");
    return path;
  }();
  static const struct Remover {
    ~Remover() {
      std::error_code ignored;
      fs::remove(prefix + ".bin", ignored), fs::remove(prefix + ".idx", ignored);
    }
  } remover;
  try {
    const TokenSet set(prefix);
    (void)set.identity(), (void)set.tokens(), (void)set.sequences();
    for (int64_t d = 0; d < std::min<int64_t>(set.documents(), 32); ++d) {
      const int64_t n = std::min<int64_t>(set.document_length(d), 1024);
      std::vector<int32_t> out(static_cast<size_t>(n));
      set.read(d, 0, n, out.data());
      if (n > 1) set.read(d, n / 2, n - n / 2, out.data());
    }
  } catch (const Error&) {
  }
}

}  // namespace ft::fuzz
