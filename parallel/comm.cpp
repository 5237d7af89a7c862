#include "parallel/comm.h"

namespace ft {

namespace {

template <class E>
E reduced(Group& group, E value, Dtype dtype, Reduce reduce) {
  group.all_reduce(Tensor(&value, dtype, {1}), reduce).wait();
  return value;
}

}  // namespace

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
