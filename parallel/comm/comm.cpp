#include "parallel/comm/comm.h"

#include <exception>
#include <utility>

namespace ft {

namespace {

// For the end of a request nobody waited for. The backend may still use the memory of one that
// cannot be finished (a deadline passed, or an error is on its way out), so that one is left alone
// for good.
void drop(std::unique_ptr<Pending>& pending) noexcept {
  if (!pending) return;
  try {
    if (!pending->test()) {
      if (pending->broken() || std::uncaught_exceptions() > 0) {
        (void)pending.release();
        return;
      }
      pending->wait();
    }
    pending.reset();
  } catch (...) {
    (void)pending.release();
  }
}

template <class E>
E reduced(Group& group, E value, Dtype dtype, Reduce reduce) {
  group.all_reduce(Tensor(&value, dtype, {1}), reduce).wait();
  return value;
}

}  // namespace

Request::Request(std::unique_ptr<Pending> pending) : pending_(std::move(pending)) {}
Request::Request(Request&&) noexcept = default;
Request& Request::operator=(Request&& other) noexcept {
  if (this != &other) {
    drop(pending_);
    pending_ = std::move(other.pending_);
  }
  return *this;
}
Request::~Request() { drop(pending_); }
bool Request::test() { return !pending_ || pending_->test(); }
void Request::wait() {
  if (pending_) pending_->wait();
  pending_.reset();
}

double all_sum(Group& group, double value) {
  return reduced(group, value, Dtype::F64, Reduce::Sum);
}
int64_t all_sum(Group& group, int64_t value) {
  return reduced(group, value, Dtype::I64, Reduce::Sum);
}
double all_max(Group& group, double value) {
  return reduced(group, value, Dtype::F64, Reduce::Max);
}
int64_t all_max(Group& group, int64_t value) {
  return reduced(group, value, Dtype::I64, Reduce::Max);
}

std::string broadcast_text(Group& group, const std::string& text, int root) {
  int64_t length = static_cast<int64_t>(text.size());
  group.broadcast(Tensor(&length, Dtype::I64, {1}), root).wait();
  std::string out = group.rank() == root ? text : std::string(static_cast<size_t>(length), '\0');
  if (length > 0) group.broadcast(Tensor(out.data(), Dtype::U8, {length}), root).wait();
  return out;
}

std::vector<std::string> gather_text(Group& group, const std::string& text) {
  std::vector<std::string> all;
  for (int root = 0; root < group.size(); ++root) all.push_back(broadcast_text(group, text, root));
  return all;
}

}  // namespace ft
