// Pages of mapped data files count as resident memory of the process, though the system may take
// them back at any time: a long run would seem to hold all of its data. Here they are kept few.
#pragma once

#include <cstdint>

namespace ft {

// When more than kMost bytes of all mappings of this kind were read, their pages are given back to
// the page cache; every five seconds at most, so that reading at full speed hardly pays for it.
// Safe from several threads.
class MappedPages {
 public:
  static constexpr int64_t kMost = int64_t{4} << 20;

  MappedPages() = default;
  MappedPages(const uint8_t* data, int64_t size) : data_(data), size_(size) {}
  ~MappedPages();  // while the mapping is still there
  MappedPages(const MappedPages&) = delete;
  MappedPages& operator=(const MappedPages&) = delete;
  // [from, from + bytes) of the mapping is read now.
  void touched(const void* from, int64_t bytes) const;
  // Any of its pages may be read at any time, without a word.
  void anywhere() const;

 private:
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace ft
