// metrics.jsonl and its names; what the folder keeps of them when a run resumes.
#include "tests/catch.h"

#include "app/run/run_folder.h"
#include "app/train/validator.h"
#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <sstream>

using namespace ft;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string fresh_folder() {
  static int number = 0;
  const fs::path path =
      fs::temp_directory_path() / fmt::format("ft-report-{}-{}", ::getpid(), number++);
  fs::remove_all(path);
  fs::create_directories(path);
  return path.string();
}

StepRecord record(int64_t step) {
  StepRecord r;
  r.step = step, r.tokens = step * 100, r.loss = 5.0 / static_cast<double>(step);
  return r;
}

std::vector<json> lines(const std::string& path) {
  std::vector<json> all;
  std::istringstream text(read_text(path));
  for (std::string line; std::getline(text, line);) all.push_back(json::parse(line));
  return all;
}

}  // namespace

TEST_CASE("a step's line is strict JSON whatever the numbers and names are") {
  StepRecord r = record(3);
  r.loss = std::nan(""), r.grad_norm = INFINITY, r.lr = -INFINITY;
  r.sources["a \"quoted\" <name>\n\xff"] = {.loss = std::nan(""), .tokens = 7, .epoch = 0.5};
  r.gradient_norms = {{"q", INFINITY}, {"k", 0.25}};
  r.dt_max_layers = {0.5, kUnknown};
  const json j = json::parse(json_line(r));  // refuses NaN and bad UTF-8
  CHECK(j["loss"].is_null());
  CHECK(j["grad_norm"].is_null());
  CHECK(j["lr"].is_null());
  CHECK(j["mfu"].is_null());
  CHECK(j["dt_max"].is_null());
  CHECK(j["tokens"] == 300);
  CHECK(j["sources"].size() == 1);
  CHECK(j["sources"].begin().value()["tokens"] == 7);
  CHECK(j["gradient_norms"]["q"].is_null());
  CHECK(j["gradient_norms"]["k"] == 0.25);
  CHECK(j["dt_max_layers"] == json::array({0.5, nullptr}));
  CHECK(!j.contains("weight_norms"));  // not a step of norms
  CHECK(json_line(r).find('\n') == std::string::npos);
}

TEST_CASE("a resumed run drops the lines of later steps and damaged ones") {
  const std::string path = fresh_folder();
  {
    RunFolder folder(path, "first", 0, false);
    folder.event("start", 0);
    for (int64_t step = 1; step <= 6; ++step) folder.add(record(step));
    folder.add(ValidationRecord{.step = 4, .set = "web", .loss = 3, .tokens = 10});
    folder.event("stop", 6);
  }
  {
    std::FILE* file = std::fopen((path + "/metrics.jsonl").c_str(), "a");
    std::fputs("{\"step\":2,\"lo", file);  // a kill
    std::fclose(file);
  }
  RunFolder folder(path, "second", 4, false);
  const auto kept = lines(path + "/metrics.jsonl");
  REQUIRE(kept.size() == 5);
  CHECK(kept[3]["step"] == 4);
  CHECK(kept[4]["validation"] == "web");
  CHECK(lines(path + "/events.jsonl").size() == 2);  // what happened has happened
  CHECK(read_text(path + "/config.yaml") == "second");
  CHECK(read_text(path + "/config.until-step-00000004.yaml") == "first");
  folder.add(record(5));
  CHECK(lines(path + "/metrics.jsonl").size() == 6);
  RunFolder(path, "second", 0, false);  // starts afresh
  CHECK(read_text(path + "/metrics.jsonl").empty());
}

TEST_CASE("events are strict JSON, only grow, and follow a line that a kill left unfinished") {
  const std::string path = fresh_folder();
  {
    RunFolder folder(path, "first", 0, false);
    folder.event("save_failed", 3, {.texts = {{"why", "a \xff \"byte\"\n"}}});
    folder.event("resume", 3,
                 {.numbers = {{"sgemm_flops", kUnknown}},
                  .changed = std::vector<Change>{{"optimizer.lr", "1e-3", "2e-3"}}});
  }
  {
    std::FILE* file = std::fopen((path + "/events.jsonl").c_str(), "a");
    std::fputs("{\"event\":\"sa", file);  // a kill
    std::fclose(file);
  }
  record_failures_in(path, 3);
  failure_step(7);
  record_failure("the disk is gone", 1);
  record_failures_in("", 0);
  std::istringstream text(read_text(path + "/events.jsonl"));
  std::vector<json> all;
  int damaged = 0;
  for (std::string line; std::getline(text, line);) {
    const json event = json::parse(line, nullptr, false);
    if (event.is_object()) all.push_back(event);
    else ++damaged;
  }
  CHECK(damaged == 1);
  REQUIRE(all.size() == 3);
  CHECK(all[1]["sgemm_flops"].is_null());
  CHECK(all[1]["changed"] ==
        json::array({{{"what", "optimizer.lr"}, {"from", "1e-3"}, {"to", "2e-3"}}}));
  CHECK(all[2]["event"] == "failure");
  CHECK(all[2]["step"] == 7);
  CHECK(all[2]["rank"] == 3);
  CHECK(all[2]["message"] == "the disk is gone");
}

TEST_CASE("a run that goes on knows which sets its last step was validated on") {
  const std::string path = fresh_folder();
  {
    RunFolder folder(path, "", 0, false);
    folder.add(ValidationRecord{.step = 2, .set = "code", .loss = 3, .tokens = 10});
    folder.add(ValidationRecord{.step = 4, .set = "web", .loss = 3, .tokens = 10});
  }
  const RunFolder folder(path, "", 4, false);
  CHECK(folder.was_validated("web"));
  CHECK_FALSE(folder.was_validated("code"));
}

TEST_CASE("the line of a validation") {
  ValidationRecord r{.step = 200, .set = "web", .loss = 2, .tokens = 8192};
  CHECK(validation_line(r) ==
        "validation web after step 200: loss 2.0000, perplexity 7.39, 8192 tokens");
  r.bits_per_byte = 1.25;
  CHECK(validation_line(r) ==
        "validation web after step 200: loss 2.0000, perplexity 7.39, 1.2500 bits per byte, 8192 "
        "tokens");
  CHECK(json::parse(json_line(r))["bits_per_byte"] == 1.25);
  r.tokens = 0, r.loss = r.bits_per_byte = kUnknown;
  CHECK(validation_line(r) == "validation web after step 200: no labels");
  CHECK(json::parse(json_line(r))["loss"].is_null());
}

TEST_CASE("a run's folder that cannot be made is named") {
  const std::string path = fresh_folder();
  write_text(path + "/file", "");
  std::string message;
  try {
    const RunFolder folder(path + "/file/run", "", 0, false);
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.find("/file/run") != message.npos);
  CHECK(message.find("run.directory") != message.npos);
}
