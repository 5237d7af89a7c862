// Observers of the gateway: where time goes, which op first made a number that is none, and a trace
// of hashes.
#pragma once

#include "core/context.h"

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

namespace ft {

// Seconds, FLOPs and bytes by op.
class Profile : public Observer {
 public:
  struct Row {
    int64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };
  void before(const std::string& where, const char* op) override;
  void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
             double flops, double bytes) override;
  const std::map<std::string, Row>& rows() const { return rows_; }
  std::string table() const;

 private:
  std::chrono::steady_clock::time_point begin_;
  std::map<std::string, Row> rows_;
};

// Remembers the first op with an output that is not finite. Host-readable memory only.
class Inspector : public Observer {
 public:
  void before(const std::string&, const char*) override {}
  void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
             double flops, double bytes) override;
  const std::string& first_bad() const {
    return first_bad_;
  }  // "layers.3: ssd.y at [17, 5] is nan", or empty

 private:
  std::string first_bad_;
};

// One JSON line an op: the hash of each output, to find where two runs part ways.
class Trace : public Observer {
 public:
  explicit Trace(std::FILE* file) : file_(file) {}
  void before(const std::string&, const char*) override {}
  void after(const std::string& where, const char* op, const std::vector<Seen>& outputs,
             double flops, double bytes) override;

 private:
  std::FILE* file_;
};

}  // namespace ft
