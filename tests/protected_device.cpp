#include "tests/protected_device.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ft::test {

namespace {

constexpr size_t kPage = 4096;
size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

ProtectedDevice* g_device = nullptr;  // whose memory a fault is looked for in

void show_stack() {
  void* frames[64];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
}

[[noreturn]] void end(const char* why) {
  std::fprintf(stderr, "protected device: %s\n", why);
  show_stack();
  std::abort();
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (g_device && g_device->owns(info->si_addr)) {
    std::fprintf(stderr, "protected device: the host touches device memory at %p\n", info->si_addr);
    show_stack();
  }
  ::signal(signal, SIG_DFL);  // on return the access is tried again
}

char* map(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  FT_CHECK(memory != MAP_FAILED, "out of memory: {} bytes asked for on the protected device",
           bytes);
  ::mprotect(static_cast<char*>(memory) + bytes, kPage, PROT_NONE);
  return static_cast<char*>(memory);
}

void unmap(std::map<char*, size_t>& blocks, void* memory) {
  const auto block = blocks.find(static_cast<char*>(memory));
  if (block == blocks.end()) end("memory is given back that is not the device's");
  ::munmap(block->first, block->second + kPage);
  blocks.erase(block);
}

}  // namespace

struct ProtectedDevice::Item {
  // A wait for the first `before` items of another stream.
  Queue* other = nullptr;
  size_t before = 0;
  // Or a copy.
  char* to = nullptr;
  const char* from = nullptr;
  size_t to_pitch = 0, from_pitch = 0, row_bytes = 0, rows = 0;
  bool from_host = false, to_host = false;
  std::vector<char> values;  // what the host's memory held when it was handed over, or will hold

  template <class F>
  void each_row(F&& f) {
    for (size_t r = 0; r < rows; ++r) f(values.data() + r * row_bytes, r);
  }
  void take_values() {
    values.resize(rows * row_bytes);
    each_row([&](char* row, size_t r) { std::memcpy(row, from + r * from_pitch, row_bytes); });
  }
  void check_source() {
    each_row([&](char* row, size_t r) {
      if (std::memcmp(row, from + r * from_pitch, row_bytes) != 0)
        end("host memory was changed before the copy that reads it was done");
    });
  }
  void give_values() {
    each_row([&](char* row, size_t r) { std::memcpy(to + r * to_pitch, row, row_bytes); });
  }
};

class LateEvent : public Event {
 public:
  explicit LateEvent(ProtectedDevice& device) : device_(device) {}
  void record(Stream stream) override {
    queue_ = &device_.queue(stream), end_ = queue_->items.size();
  }
  void hold(Stream stream) override {
    if (!queue_) return;
    auto item = std::make_unique<ProtectedDevice::Item>();
    item->other = queue_, item->before = end_;
    device_.queue(stream).items.push_back(std::move(item));
  }
  void wait() override {
    if (queue_) device_.finish(*queue_, end_);
  }

 private:
  ProtectedDevice& device_;
  ProtectedDevice::Queue* queue_ = nullptr;
  size_t end_ = 0;
};

ProtectedDevice::ProtectedDevice() {
  g_device = this;
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
}

ProtectedDevice::~ProtectedDevice() {
  if (g_device == this) g_device = nullptr;
  for (auto* blocks : {&blocks_, &host_blocks_})
    while (!blocks->empty()) unmap(*blocks, blocks->begin()->first);
}

bool ProtectedDevice::owns(const void* memory) const {
  auto* at = static_cast<char*>(const_cast<void*>(memory));
  const auto after = blocks_.upper_bound(at);
  if (after == blocks_.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return at < begin + bytes + kPage;
}

void* ProtectedDevice::allocate(size_t bytes) {
  char* memory = map(pages(bytes));
  blocks_[memory] = pages(bytes);
  if (accesses_ == 0) ::mprotect(memory, pages(bytes), PROT_NONE);
  ++allocations_;
  return memory;
}

void* ProtectedDevice::allocate_host(size_t bytes) {
  char* memory = map(pages(bytes));
  host_blocks_[memory] = pages(bytes);
  return memory;
}

void ProtectedDevice::release(void* memory) { unmap(blocks_, memory); }
void ProtectedDevice::release_host(void* memory) { unmap(host_blocks_, memory); }

Streams ProtectedDevice::streams() const {
  auto* self = const_cast<ProtectedDevice*>(this);
  return {.main = {}, .side = {&self->queues_[1]}, .comm = {&self->queues_[2]}};
}

std::unique_ptr<Event> ProtectedDevice::event() { return std::make_unique<LateEvent>(*this); }

ProtectedDevice::Queue& ProtectedDevice::queue(Stream stream) {
  return stream.handle ? *static_cast<Queue*>(stream.handle) : queues_[0];
}

void ProtectedDevice::synchronize(Stream stream) {
  Queue& q = queue(stream);
  finish(q, q.items.size());
}

void ProtectedDevice::copy(void* to, const void* from, size_t bytes, Stream stream) {
  copy_rows(to, bytes, from, bytes, bytes, 1, stream);
}

void ProtectedDevice::copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                size_t row_bytes, size_t rows, Stream stream) {
  auto item = std::make_unique<Item>();
  item->to = static_cast<char*>(to), item->to_pitch = to_pitch;
  item->from = static_cast<const char*>(from), item->from_pitch = from_pitch;
  item->row_bytes = row_bytes, item->rows = rows;
  item->from_host = !owns(from), item->to_host = !owns(to);
  if (item->from_host) item->take_values();
  if (item->to_host)
    for (size_t r = 0; r < rows; ++r) std::memset(item->to + r * to_pitch, 0xff, row_bytes);
  Queue& q = queue(stream);
  const bool late = item->from_host;
  q.items.push_back(std::move(item));
  // Ops run when they are handed over, so what reads device memory cannot wait either.
  if (!late) run(q, q.items.size());
}

void ProtectedDevice::run(Queue& q, size_t end) {
  if (q.run >= end) return;
  const int depth = accesses_++;
  if (depth == 0) protect(PROT_READ | PROT_WRITE);
  for (; q.run < end; ++q.run) {
    Item& item = *q.items[q.run];
    if (item.other) {
      run(*item.other, item.before);
      continue;
    }
    if (item.from_host) item.check_source();
    else item.take_values();
    if (!item.to_host) item.give_values();
  }
  end_access();
}

void ProtectedDevice::finish(Queue& q, size_t end) {
  run(q, end);
  for (; q.finished < end; ++q.finished) {
    Item& item = *q.items[q.finished];
    if (item.other) finish(*item.other, item.before);
    else if (item.from_host) item.check_source();
    if (item.to_host) item.give_values();
    item.values = {};
  }
}

void ProtectedDevice::begin_access(Stream stream) {
  Queue& q = queue(stream);
  run(q, q.items.size());
  if (accesses_++ == 0) protect(PROT_READ | PROT_WRITE);
}

void ProtectedDevice::end_access() {
  if (--accesses_ == 0) protect(PROT_NONE);
}

void ProtectedDevice::protect(int protection) {
  for (const auto& [memory, bytes] : blocks_)
    if (::mprotect(memory, bytes, protection) != 0) end("mprotect failed");
}

}  // namespace ft::test
