// The order of a step: report, stop, save, validate. What is measured never costs what was trained.
#include "app/run/progress.h"
#include "parallel/checkpoint/checkpoint.h"
#include "tests/failures/job.h"

using namespace ft;
using namespace ft::test;

namespace {

// A copy of the tests' token set whose last id is outside of the vocabulary.
std::string set_with_a_bad_id() {
  const std::string good = make_set(), bad = workspace() + "/bad-id";
  std::string tokens = read_text(good + ".bin");
  tokens[tokens.size() - 2] = tokens[tokens.size() - 1] = '\x7f';
  write_text(bad + ".bin", tokens);
  fs::copy_file(good + ".idx", bad + ".idx", fs::copy_options::overwrite_existing);
  return bad;
}

std::string validation(const std::string& name, const std::string& set, int place = 0) {
  return fmt::format(" data.validation.{}.path={} data.validation.{}.name={}", place, set, place,
                     name);
}

}  // namespace

TEST_CASE("failures: a fault in a validation set costs neither the step nor the run") {
  const int ranks = GENERATE(1, 2);
  const std::string name = fmt::format("bad-validation-{}", ranks), run = run_folder(name);
  REQUIRE(train(name, ranks,
                "validate.every=4" + validation("broken", set_with_a_bad_id()) +
                    validation("sound", make_set(), 1)) == 0);
  const std::string log = log_of(name);
  INFO(log);
  for (int step : {4, 8, 12}) CHECK(fs::exists(checkpoint_path(name, step)));
  CHECK(log.find("saved " + checkpoint_path(name, 4)) < log.find("bad-id.bin"));
  CHECK(times(log, "validation broken after step 4: ") == 1);
  CHECK(times(log, "validation broken") == 1);  // the run goes on without it
  CHECK(log.find("the run goes on without this set") != std::string::npos);
  CHECK(times(log, "this run will take ") == 1);  // of 12 steps
  CHECK(validated(run, "sound") == std::vector<int>{4, 8, 12});
  const auto failed = events_of(run, "validation_failed");
  REQUIRE(failed.size() == 1);
  CHECK(failed[0]["set"] == "broken");
  CHECK(failed[0]["step"] == 4);
}

TEST_CASE("failures: validation sets are looked at before the first step") {
  const std::string name = "validation-start";
  SECTION("a fault found at the start ends it there") {
    CHECK(train(name, 2,
                "validate.at_start=true validate.every=4" +
                    validation("broken", set_with_a_bad_id())) == 2);
    CHECK(log_of(name).find("bad-id.bin") != std::string::npos);
    CHECK(log_of(name).find("\nstep ") == std::string::npos);
  }
  SECTION("a set that is cut short") {
    const std::string name = "validation-cut";
    const std::string cut = workspace() + "/cut";
    fs::copy_file(make_set() + ".bin", cut + ".bin", fs::copy_options::overwrite_existing);
    write_text(cut + ".idx", read_text(make_set() + ".idx").substr(0, 100));
    CHECK(train(name, 2, "validate.every=4" + validation("cut", cut)) == 2);
    CHECK(log_of(name).find("cut.idx") != std::string::npos);
    CHECK_FALSE(fs::exists(run_folder(name)));  // nothing was begun
  }
}

TEST_CASE("failures: a signal does not wait for validation, which is made up for later") {
  const int ranks = GENERATE(1, 2);
  const std::string name = fmt::format("signal-validation-{}", ranks), run = run_folder(name);
  const std::string sets =
      "train.tokens=11520 checkpoint.every=0 validate.every=1 validate.sequences=4" +
      validation("a", make_set()) + validation("b", make_set(), 1);
  {
    Job job(name, ranks, sets);
    REQUIRE(job.wait_for_step(3));
    job.kill(SIGUSR1);
    CHECK(job.wait() == 75);
  }
  INFO(log_of(name));
  const auto stop = events_of(run, "stop");
  REQUIRE(stop.size() == 1);
  CHECK(stop[0]["why"] == "SIGUSR1");
  const int step = stop[0]["step"].get<int>();
  REQUIRE(step < 30);
  CHECK(stop[0]["path"] == checkpoint_path(name, step));
  CHECK(log_of(name).find(fmt::format("validation after step {} is left out", step)) !=
        std::string::npos);
  CHECK(validated(run, "b").size() < static_cast<size_t>(step));
  REQUIRE(train(name, ranks, sets) == 0);
  std::vector<int> all(30);
  for (int i = 0; i < 30; ++i) all[static_cast<size_t>(i)] = i + 1;
  CHECK(validated(run, "a") == all);
  CHECK(validated(run, "b") == all);
}

TEST_CASE("failures: run.stop_before saves, says so and how to go on") {
  const std::string name = "stop-before";
  REQUIRE(train(name, 1, "train.tokens=1B run.stop_before=1 checkpoint.every=0") == 75);
  const std::string log = log_of(name);
  INFO(log);
  const auto stop = events_of(run_folder(name), "stop");
  REQUIRE(stop.size() == 1);
  const int step = stop[0]["step"].get<int>();
  CHECK(stop[0]["why"] == "run.stop_before");
  CHECK(log.find(fmt::format("stopped by run.stop_before after step {}; saved {}; the same command "
                             "goes on from there",
                             step, checkpoint_path(name, step))) != std::string::npos);
  // Said of the first steps that were measured, which a slow machine may not have reached.
  CHECK(times(log, "this run will take ") == (step > 2 * Pace::kWarmUp ? 1 : 0));
}
