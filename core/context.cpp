#include "core/context.h"

namespace ft {

std::string layer_label(std::string where) {
  while (!where.empty() && where.back() == '.') where.pop_back();
  return where;
}

void rethrow_of(const std::string& where, const char* op, const Error& error) {
  if (dynamic_cast<const SharedError*>(&error)) throw;  // the words of all ranks
  std::string named = layer_label(where);
  if (!named.empty()) named += ": ";
  throw Error(fmt::format("{}{}: {}", named, op, error.what()), error.exit_code());
}

}  // namespace ft
