// Observers of the gateway: where time goes, and which op first made a number that is none.
#pragma once

#include "core/context.h"

#include <chrono>
#include <map>
#include <string>

namespace ft {

// Seconds, FLOPs and bytes by op.
class Profile : public Observer {
 public:
  explicit Profile(Device& device) : device_(device) {}
  struct Row {
    int64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };
  void before(const std::string& where, const char* op) override;
  void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
             double flops, double bytes) override;
  const std::map<std::string, Row>& rows() const { return rows_; }

 private:
  Device& device_;
  std::chrono::steady_clock::time_point begin_;
  std::map<std::string, Row> rows_;
};

// Remembers the first op with an output that is not finite.
class Inspector : public Observer {
 public:
  explicit Inspector(Transfer& transfer) : transfer_(transfer) {}
  void before(const std::string&, const char*) override {}
  void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
             double flops, double bytes) override;
  const std::string& first_bad() const {
    return first_bad_;
  }  // "layers.3: ssd.y at [17, 5] is nan", or empty

 private:
  Transfer& transfer_;
  std::string first_bad_;
};

}  // namespace ft
