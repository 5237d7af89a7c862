// --help, --version, and what a mistyped command line meets.
#include "tests/catch.h"
#include "tests/commands/command.h"

#include <algorithm>

using namespace ft;
using namespace ft::test;

TEST_CASE("help: every command explains itself with an example") {
  const Ran all = command("--help");
  CHECK(all.code == 0);
  for (const std::string name : {"train", "plan", "tokenize", "inspect", "generate", "probe",
                                 "evaluate", "bench", "doctor"}) {
    const Ran ran = command(name + " --help");
    INFO(name << ran.err);
    CHECK(ran.code == 0);
    CHECK(has(all.out, name));
    CHECK(has(ran.out, "Example"));
    CHECK(has(ran.out, "falcon-train " + name + " "));
  }
}

TEST_CASE("help: the version names build, compiler and libraries") {
  const Ran ran = command("--version");
  CHECK(ran.code == 0);
  for (const char* part : {"falcon-train", "build", "MPI", "yaml-cpp", "zstd"})
    CHECK(has(ran.out, part));
}

TEST_CASE("help: a word that is wrong is named, with what was expected and where to read on") {
  struct Case {
    const char *arguments, *command, *says;
  };
  const Case cases[] = {
      {"hlep", "", "hlep is not a command; commands are train, plan"},
      {"genrate runs/x", "", "genrate is not a command; did you mean generate?"},
      {"''", "", "\"\" is not a command"},
      {"--seed 3 generate", "", "--seed comes after the command: falcon-train generate"},
      {"--", "", "the command is missing"},
      {"generate", "generate", "MODEL is missing"},
      {"probe x --tokens y", "probe", "--out is missing"},
      {"report --out x", "report", "RUN_DIR is missing"},
      {"generate x y", "generate", "y is one argument too many"},
      {"plan a.yaml optimizer.lr=1", "plan", "is overridden by --set optimizer.lr=1"},
      {"train a.yaml --optimizer.lr=1", "train", "is overridden by --set optimizer.lr=1"},
      {"train a.yaml --optimizer.lr 1", "train", "by --set optimizer.lr=VALUE"},
      {"generate x --temprature=1", "generate", "did you mean --temperature?"},
      {"generate x --xyzzyplugh", "generate", "--xyzzyplugh is not an option; options are --help"},
      {"generate x -t 3", "generate", "-t is not an option"},
      {"train --resume", "train", "--resume: the value is missing"},
      {"generate x --seed=", "generate", "--seed=: the value is missing"},
      {"train a.yaml --dry-run=yes", "train", "--dry-run takes no value"},
      {"generate x --seed 1 --seed 2", "generate", "--seed is given more than once"},
      {"evaluate x --out y", "evaluate", "--out means something only with --score"},
      {"evaluate x --score a --data b", "evaluate", "--data and --score do not go together"},
      {"generate x --tokens -3", "generate", "--tokens -3: expected a whole number above 0"},
      {"generate x --tokens many", "generate", "--tokens many: expected a whole number above 0"},
      {"generate x --tokens 1.5", "generate", "--tokens 1.5: expected a whole number above 0"},
      {"generate x --tokens 0x10", "generate", "--tokens 0x10: expected a whole number"},
      {"generate x --tokens 1e300", "generate", "expected a whole number of at most 1000000000"},
      {"generate x --tokens ''", "generate", "--tokens \"\": expected a whole number"},
      {"generate x --seed -1", "generate", "--seed -1: expected a whole number 0 or above"},
      {"generate x --seed 18446744073709551617", "generate", "at most 9223372036854775807"},
      {"generate x --top-k -1", "generate", "--top-k -1: expected a whole number 0 or above"},
      {"generate x --temperature nan", "generate", "--temperature nan: expected a number 0 or"},
      {"generate x --temperature .inf", "generate", ", and finite"},
      {"generate x --temperature -1", "generate", "--temperature -1: expected a number 0 or above"},
      {"generate x --top-p 1.5", "generate", "--top-p 1.5: expected a number from 0 to 1"},
      {"generate x --format txt", "generate", "--format txt: expected one of auto, text"},
      {"generate x --prompt-ids 1,,2", "generate", "--prompt-ids 1,,2: expected whole numbers"},
      {"generate x --prompt-ids 5,x", "generate", "x is none"},
      {"generate x --prompt-ids 5,-1", "generate", "-1 is none"},
      {"generate x --prompt-ids ''", "generate", "one is empty"},
      {"plan a --memory 0", "plan", "--memory 0: expected a number above 0"},
      {"plan a --world 0", "plan", "--world 0: expected a whole number above 0"},
      {"tokenize x --out -", "tokenize", "--out -: expected the name of a file to write"},
      {"probe x --tokens t --out ''", "probe", "--out \"\": the value is empty (Safetensors file"},
      {"generate \"\"", "generate", "MODEL \"\": the value is empty (Run, checkpoint"},
      {"tokenize a '' --out x", "tokenize", "INPUT \"\": the value is empty"},
      {"report x --out ''", "report", "--out \"\": the value is empty"},
      {"evaluate x --json ''", "evaluate", "--json \"\": the value is empty"},
      {"doctor --seconds 0", "doctor", "--seconds 0: expected a number from 0.01 to 600"},
      {"bench --precision fp8", "bench", "--precision fp8: expected one of fp32, bf16"},
      {"evaluate \"$(printf 'a\\377')\"", "evaluate", "a\\xff: is not UTF-8"},
      {"plan a --set \"$(printf 'run.name=\\303')\"", "plan", "--set run.name=\\xc3: is not UTF-8"},
  };
  for (const Case& one : cases) {
    const Ran ran = command(one.arguments);
    const std::string who = std::string("falcon-train") + (*one.command ? " " : "") + one.command;
    INFO(one.arguments << ": " << ran.err);
    CHECK(ran.code == 2);
    CHECK(ran.out.empty());
    CHECK(ran.err.starts_with(who + ": "));
    CHECK(has(ran.err, one.says));
    CHECK(ran.err.ends_with("ee " + who + " --help\n"));
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
  }
  const Ran bare = command("");
  CHECK(bare.code == 2);
  CHECK(has(bare.err, "evaluate"));
  CHECK(command("generate --tokens 5 --help").code == 0);
}

TEST_CASE("help: ranks say once what is wrong", "[ranks]") {
  const Ran ran = command("genrate", 2);
  CHECK(ran.code == 2);
  CHECK(has(ran.err, "did you mean generate?"));
  CHECK(ran.err.find("genrate") == ran.err.rfind("genrate"));
}

TEST_CASE("help: tokenize says what a token is, and what else makes sets") {
  const Ran help = command("tokenize --help");
  CHECK(help.code == 0);
  for (const char* part : {"one token a byte", "--tokenizer", "--end-of-document", "--skip-bad",
                           "scripts/prepare_data.py", ".ndjson"})
    CHECK(has(help.out, part));
}
