// Ranks that are not alike are refused before they train.
#include "tests/failures/job.h"

using namespace ft;
using namespace ft::test;

namespace {

const std::string kLauncher = "mpirun --oversubscribe --bind-to none -n 1 ";

// Refused with one message that holds these words, before anything is written.
void refused(const std::string& name, const std::string& one, const std::string& two,
             const std::vector<std::string>& says) {
  CHECK(shell(kLauncher + one + " : -n 1 " + two, name + ".log") == 2);
  const std::string log = log_of(name);
  INFO(log);
  CHECK(times(log, "falcon-train: ") == 1);
  for (const std::string& word : says) CHECK(log.find(word) != std::string::npos);
  CHECK_FALSE(fs::exists(run_folder(name) + "/config.yaml"));
  CHECK(ranks_of(name).empty());
}

struct Difference {
  std::string one, two, says;
};

}  // namespace

TEST_CASE("failures: ranks with other settings are refused by the setting") {
  const auto d = GENERATE(values<Difference>({
      {"optimizer.lr=0.001", "optimizer.lr=0.002",
       "optimizer.lr: 0.001 on rank 0, 0.002 on rank 1"},
      {"run.seed=1", "run.seed=2", "run.seed: 1 on rank 0, 2 on rank 1"},
      {"model.hidden_size=32", "model.hidden_size=64",
       "model.hidden_size: 32 on rank 0, 64 on rank 1"},
      {"train.z_loss=0", "train.z_loss=1", "train.z_loss: "},
  }));
  const std::string name = "differ-" + d.one.substr(0, d.one.find('='));
  refused(name, train_command(name, 1, d.one), train_command(name, 1, d.two),
          {"the ranks differ in their configuration: " + d.says, "the same --set"});
}

TEST_CASE("failures: ranks that see other files are refused") {
  // The same path in two places: each rank looks from a folder of its own.
  const std::string set = make_set(), name = "other-files";
  for (const std::string rank : {"0", "1"}) {
    fs::create_directories(workspace() + "/at-" + rank);
    for (const char* suffix : {".bin", ".idx"})
      fs::copy_file(set + suffix, workspace() + "/at-" + rank + "/own" + suffix);
  }
  std::string bytes = read_text(workspace() + "/at-1/own.bin");
  std::swap(bytes[10], bytes[11]);
  write_text(workspace() + "/at-1/own.bin", bytes);
  const std::string train =
      binary() + " train " + fs::absolute("tests/train/tiny.yaml").string() +
      " --set run.threads=1 --set data.train.0.path=own --set run.directory=" + workspace() + "/" +
      name + " ";
  refused(name, "-wdir " + workspace() + "/at-0 " + train,
          "-wdir " + workspace() + "/at-1 " + train,
          {"the ranks differ in their data: ", "the same files"});
}

TEST_CASE("failures: ranks of another build or command are refused") {
  const std::string other = workspace() + "/other-build";
  fs::copy_file(binary(), other, fs::copy_options::overwrite_existing);
  std::ofstream(other, std::ios::app) << "x";
  std::string command = train_command("builds", 1, "");
  refused("builds", command, other + command.substr(binary().size()),
          {"the ranks differ in their build: ", "the same executable"});
  refused("commands", train_command("commands", 1, ""), binary() + " doctor",
          {"the ranks differ in their command: train on rank 0, doctor on rank 1"});
}
