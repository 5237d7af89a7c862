// Where results go: standard output that takes nothing, links, devices.
#include "core/path.h"
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <sys/stat.h>

using namespace ft;
using namespace ft::test;

TEST_CASE("commands: results that standard output does not take are a failure") {
  const std::string set = make_set();
  for (const std::string& arguments :
       {std::string("--help"), std::string("--version"), std::string("train --help-config"),
        std::string("train tests/train/tiny.yaml --dry-run --set data.train.0.path=") + set,
        std::string("plan tests/train/tiny.yaml"), "inspect " + set,
        "evaluate " + byte_run() + " --data " + set}) {
    const int code = shell(fmt::format("{{ {} {} > /dev/full ; }}", binary(), arguments), "full");
    const std::string log = read_text(workspace() + "/full");
    INFO(arguments << "\n" << log);
    CHECK(code == 1);
    CHECK(has(log, "standard output could not be written in full: "));
    CHECK(shell(fmt::format("{{ {} {} > /dev/null ; }}", binary(), arguments), "null") == 0);
  }
}

TEST_CASE("commands: a run whose lines standard output does not take goes on, with its log") {
  const int code =
      shell(fmt::format("{{ {} > /dev/full ; }}", train_command("mute", 1, "")), "mute.log");
  const std::string log = read_text(workspace() + "/mute.log");
  INFO(log);
  CHECK(code == 0);
  CHECK(has(log, "standard output cannot be written (No space left on device)"));
  CHECK(has(read_text(workspace() + "/mute/t/log.txt"), "step 12/12"));
}

TEST_CASE("commands: an output replaces neither a device nor a link") {
  const std::string set = make_set(), real = workspace() + "/real.json",
                    link = workspace() + "/link";
  write_text(real, "old");
  fs::create_symlink(real, link);
  const std::string evaluate = "evaluate " + byte_run() + " --data " + set + " --json ";
  CHECK(command(evaluate + link).code == 0);
  CHECK(is_link(link));
  CHECK(nlohmann::json::parse(read_text(real)).is_object());
  CHECK(command(evaluate + "/dev/null").code == 0);
  struct stat info {};
  REQUIRE(::stat("/dev/null", &info) == 0);
  CHECK(S_ISCHR(info.st_mode));
  CHECK(command(evaluate + "/dev/full").code == 1);
  CHECK(command(evaluate + workspace()).code != 0);
  const Ran both = command(evaluate + "/dev/stdout");
  CHECK(both.code == 0);
  CHECK(has(both.out, "{\n"));
  CHECK(has(both.out, "loss"));
}

TEST_CASE("commands: an output never replaces what the command reads") {
  const std::string set = make_set(), requests = workspace() + "/requests.jsonl",
                    link = workspace() + "/by-another-name";
  const std::string line = R"({"id": 3, "context_ids": [7], "continuation": "a", "note": NaN})";
  write_text(requests, line + "\n");
  fs::create_symlink(requests, link);
  const std::string run = byte_run(), tokens = tokens_file({1, 2, 3});
  const auto refused = [](const std::string& arguments, const std::string& file) {
    const std::string before = read_text(file);
    const Ran ran = command(arguments + " " + file);
    INFO(arguments << ": " << ran.err);
    CHECK(ran.code == 2);
    CHECK(has(ran.err, "which this command reads and would replace"));
    CHECK(read_text(file) == before);
  };
  refused("evaluate " + run + " --score " + requests + " --out", requests);
  refused("evaluate " + run + " --score " + requests + " --out", link);
  refused("evaluate " + run + " --data " + set + " --json", set + ".json");
  refused("evaluate " + run + " --data " + set + " --json", run + "/config.yaml");
  refused("probe " + run + " --tokens " + tokens + " --out", tokens);
  refused("report " + run + " --out", run + "/metrics.jsonl");
  CHECK(has(command("report " + run + " --out " + run).err, "is a folder; name a file"));
  for (int i = 0; i < 2; ++i) {  // its own results may be replaced
    CHECK(command("report " + run + "/").code == 0);
    CHECK(command("evaluate " + run + " --score " + requests + " --out " + run + "/s.jsonl").code ==
          0);
  }
  CHECK(has(read_text(run + "/s.jsonl"), "\"id\":3"));
}

TEST_CASE("commands: a reader that is gone is no full disk") {
  const std::string arguments = " tokenize README.md --out " + workspace() + "/piped";
  CHECK(shell(fmt::format("bash -c '{}{} 2> {}/err | sleep 0; exit ${{PIPESTATUS[0]}}'", binary(),
                          arguments, workspace()),
              "out") == 0);
  CHECK(read_text(workspace() + "/err").empty());
}
