// --help, --version, and what a mistyped command line meets.
#include "tests/catch.h"
#include "tests/commands/command.h"

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

TEST_CASE("help: wrong usage is exit code 2, with a hint") {
  const Ran bare = command("");
  CHECK(bare.code == 2);
  CHECK(has(bare.err, "evaluate"));
  const Ran word = command("genrate runs/x");
  CHECK(word.code == 2);
  CHECK(has(word.err, "generate instead of genrate"));
  const Ran option = command("generate runs/x --temprature=1");
  CHECK(option.code == 2);
  CHECK(has(option.err, "--temperature instead of --temprature"));
  CHECK(command("generate").code == 2);
  CHECK(command("probe x --tokens y").code == 2);
  CHECK(command("generate x --tokens many").code == 2);
  CHECK(command("train --resume").code == 2);
}

TEST_CASE("help: tokenize says what a token is, and what else makes sets") {
  const Ran help = command("tokenize --help");
  CHECK(help.code == 0);
  for (const char* part : {"one token a byte", "--tokenizer", "--end-of-document", "--skip-bad",
                           "scripts/prepare_data.py", ".ndjson"})
    CHECK(has(help.out, part));
}
