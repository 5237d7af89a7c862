// plan, train --dry-run and train: one answer to the same settings; what a run says as it starts.
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>
#include <cstdlib>

using namespace ft;
using namespace ft::test;
using nlohmann::json;

namespace {

std::string tiny(const std::string& sets) {
  std::string text = "tests/train/tiny.yaml --set run.directory=" + workspace() + "/planned" +
                     " --set data.train.0.path=" + make_set();
  std::istringstream words(sets);
  for (std::string word; words >> word;) text += " --set " + word;
  return text;
}

// The one line of an error, without what mpirun puts around it.
std::string refusal(const std::string& text) {
  const size_t at = text.find("falcon-train: ");
  return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
}

}  // namespace

TEST_CASE("plan, dry run and train refuse the same with the same words") {
  const std::string sets =
      GENERATE("parallel.zero=1", "parallel.sequence=true", "parallel.virtual_stages=2",
               "parallel.tensor=2", "checkpoint.async=true", "run.device=cuda",
               "model.linear=bitnet", "optimizer.state=bf16", "train.global_batch=7",
               "schedule.batch_ramp=[[0,3],[96,8]]", "model.vocab_size=100", "optimizer.eps=0");
  INFO(sets);
  const std::string arguments = tiny(sets);
  const Ran planned = command("plan " + arguments + " --world 2");
  const Ran dry = command("train " + arguments + " --dry-run", 2);
  const Ran trained = command("train " + arguments, 2);
  CHECK(planned.code == 2);
  CHECK(dry.code == 2);
  CHECK(trained.code == 2);
  INFO(planned.err << dry.err << trained.err);
  CHECK_FALSE(refusal(planned.err).empty());
  CHECK(refusal(planned.err) == refusal(dry.err));
  CHECK(refusal(planned.err) == refusal(trained.err));
  CHECK_FALSE(fs::exists(workspace() + "/planned/t/checkpoints"));
}

TEST_CASE("plan: data that are elsewhere are left to the machine that trains") {
  const Ran ran = command(
      "plan tests/train/tiny.yaml --set data.train.0.path=nowhere/x "
      "--set data.validation=[{path:\\ gone/*}]");
  INFO(ran.err);
  CHECK(ran.code == 0);
  CHECK(has(ran.out + ran.err, "nowhere/x.idx is not here"));
  // A set below a folder is looked at like one that is named.
  const Ran folder = command(
      "plan tests/train/tiny.yaml --set model.vocab_size=100 "
      "--set data.train.0.path=" +
      fs::path(make_set()).parent_path().string());
  CHECK(folder.code == 2);
  CHECK(has(folder.err, "set.json: the set's vocabulary is 257"));
}

TEST_CASE("plan: says what a run has before it, as the run itself does") {
  // From "run: " to the end of that block.
  const auto block = [](const std::string& out) {
    const size_t begin = out.find("\nrun: "), end = out.find("\n  checkpoints: ", begin);
    return begin == std::string::npos ? "" : out.substr(begin, out.find('\n', end + 1) - begin);
  };
  const Ran planned = command("plan " + tiny("")),
            dry = command("train " + tiny("") + " --dry-run");
  INFO(planned.out << planned.err);
  CHECK(has(block(planned.out), "run: 12 steps to come, 384 tokens each, 4,608 in all"));
  CHECK(has(block(planned.out), "/set 0.569\n"));
  CHECK(block(planned.out) == block(dry.out));
  // A folder is the sets that lie in it.
  const std::string folder = fs::path(make_set()).parent_path().string();
  CHECK(has(command("plan " + tiny("data.train.0.path=" + folder)).out, "epochs to come: "));
  CHECK(has(command("plan tests/train/tiny.yaml --set data.train.0.path=nowhere/x").out,
            "not known: no set of data.train is here"));
  CHECK_FALSE(has(command("plan " + tiny("train.tokens=0")).out, "\nrun: "));
}

TEST_CASE("plan: sizes beyond any memory are numbers, not negative ones") {
  for (const std::string sets :
       {"train.global_batch=1000000000", "model.vocab_size=1000000000",
        "model.intermediate_size=1000000000", "model.mamba_d_state=1000000000"}) {
    const Ran ran = command("plan " + tiny(sets + " model.pad_token_id=null") + " --memory 16");
    INFO(sets << ran.out << ran.err);
    CHECK(ran.code == 2);
    CHECK(has(ran.err, "GiB too little"));
    CHECK(ran.out.find("  -") == std::string::npos);  // no negative size
  }
  CHECK(command("plan " + tiny("") + " --memory 1e300").code == 0);
  CHECK(command("plan " + tiny("train.global_batch=1000000000") + " --world 1000000000").code !=
        139);
}

TEST_CASE("train: says how many threads a rank takes, and why") {
  const auto started = [](const std::string& sets, int ranks) {
    return command("train " + tiny("run.threads=0 " + sets) + " --dry-run", ranks).out;
  };
  ::unsetenv("OMP_NUM_THREADS");
  CHECK(has(started("", 1), "threads: "));
  CHECK(has(started("", 2), "shared by 2 ranks)"));
  CHECK(has(started("run.threads=3", 1), "threads: 3 a rank (run.threads)"));
  ::setenv("OMP_NUM_THREADS", "3", 1);
  CHECK(has(started("", 2), "threads: 3 a rank (OMP_NUM_THREADS)"));
  CHECK(has(command("plan " + tiny("run.threads=0")).out, "threads: 3 a rank (OMP_NUM_THREADS)"));
  ::unsetenv("OMP_NUM_THREADS");
}

TEST_CASE("train: the yardstick of MFU is kept over resumes, and in the run's precision") {
  fs::remove_all(workspace() + "/planned");
  const std::string folder = workspace() + "/planned/t";
  const auto run = [&](const std::string& sets) {
    const Ran ran = command("train " + tiny("log.mfu=true " + sets));
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    return ran.out;
  };
  const std::string first = run("train.tokens=1536");
  CHECK(has(first, "measured fp32 matrix product of this run ("));
  const json kept = json::parse(read_text(folder + "/yardstick.json"));
  CHECK(kept["flops"].get<double>() > 1e8);
  const std::string second = run("train.tokens=3072");
  CHECK(has(second, "measured when the run began"));
  CHECK(json::parse(read_text(folder + "/yardstick.json")) == kept);
  // Other conditions: measured anew, and said.
  const std::string third = run("train.tokens=4608 train.precision=bf16");
  CHECK(has(third, "measured bf16 matrix product"));
  CHECK(has(third, "measured anew: before it was"));
  CHECK(json::parse(read_text(folder + "/yardstick.json"))["machine"] != kept["machine"]);
  // What is no yardstick costs a measurement.
  write_text(folder + "/yardstick.json", "{\"flops\": \"many\"");
  CHECK_FALSE(has(run("train.tokens=6144 train.precision=bf16"), "when the run began"));
}
