// Going on: which checkpoint is taken, which is refused, and that nothing of value is overwritten.
#include "tests/failures/job.h"

#include <map>

using namespace ft;
using namespace ft::test;

namespace {

void flip_last_byte(const std::string& path) {
  std::string bytes = read_text(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_text(path, bytes);
}

const Tensors& whole_run() {
  static const Tensors values = [] {
    REQUIRE(train("whole", 1, "") == 0);
    return tensors("whole", 12);
  }();
  return values;
}

}  // namespace

TEST_CASE("failures: a checkpoint that is damaged is passed over, by name, for the one before") {
  fs::remove_all(workspace() + "/damaged");  // each section begins anew
  REQUIRE(train("damaged", 1, "checkpoint.keep_last=1 checkpoint.keep_every=4") == 0);
  const std::string newest = checkpoint_path("damaged", 12),
                    data = newest + "/rank-00000.safetensors";
  std::string says;
  SECTION("a wrong checksum") {
    flip_last_byte(data);
    says = "checksum";
  }
  SECTION("a folder in the place of a file") {
    fs::remove(data);
    fs::create_directory(data);
    says = "is missing";
  }
  SECTION("a short file") {
    fs::resize_file(data, 1000);
    says = "too short";
  }
  SECTION("no marker") {
    fs::remove(newest + "/COMPLETE");
    says = "not finished";
  }
  SECTION("a damaged manifest") {
    flip_last_byte(newest + "/manifest.json");
    says = "manifest.json: is damaged";
  }
  REQUIRE(train("damaged", 1, "checkpoint.keep_last=1") == 0);
  const std::string log = log_of("damaged");
  INFO(log);
  CHECK(log.find("checkpoint passed over: " + newest) != std::string::npos);
  CHECK(log.find(says) != std::string::npos);
  CHECK(log.find("at step 8") != std::string::npos);
  CHECK(tensors("damaged", 12) == whole_run());
}

TEST_CASE("failures: where no checkpoint can be used, the run does not silently begin anew") {
  REQUIRE(train("none-left", 1, "checkpoint.every=0") == 0);
  flip_last_byte(checkpoint_path("none-left", 12) + "/rank-00000.safetensors");
  CHECK(train("none-left", 1, "") == 2);
  CHECK(log_of("none-left").find("none of its checkpoints can be used") != std::string::npos);
  CHECK(log_of("none-left").find("--resume none") != std::string::npos);
  CHECK(fs::exists(checkpoint_path("none-left", 12)));
}

TEST_CASE("failures: --resume none keeps the earlier run, whole, under another name") {
  REQUIRE(train("afresh", 1, "train.tokens=1536") == 0);
  const auto before = tensors("afresh", 4);
  REQUIRE(train("afresh", 1, "train.tokens=384", "--resume none") == 0);
  CHECK(log_of("afresh").find("was moved to " + run_folder("afresh") + ".old-1") !=
        std::string::npos);
  CHECK_FALSE(fs::exists(checkpoint_path("afresh", 4)));
  fs::rename(run_folder("afresh"), workspace() + "/afresh/new");
  fs::rename(run_folder("afresh") + ".old-1", run_folder("afresh"));
  CHECK(tensors("afresh", 4) == before);
  CHECK(fs::exists(run_folder("afresh") + "/metrics.jsonl"));
}

TEST_CASE("failures: going back to an earlier checkpoint puts the later ones aside") {
  REQUIRE(train("back", 1, "") == 0);
  REQUIRE(train("back", 1, "train.tokens=1920 checkpoint.every=1 checkpoint.keep_last=2",
                "--resume " + checkpoint_path("back", 4)) == 0);  // one step
  CHECK(fs::exists(run_folder("back") + "/checkpoints.old-1/step-00000012"));
  CHECK(fs::exists(checkpoint_path("back", 5)));
  CHECK(fs::exists(checkpoint_path("back", 4)));
  CHECK_FALSE(fs::exists(checkpoint_path("back", 8)));
  CHECK(train("back", 1, "", "--resume /nowhere") == 2);
  CHECK(log_of("back").find("/nowhere: there is no such checkpoint") != std::string::npos);
}

TEST_CASE("failures: what must not change on resume is refused by name") {
  REQUIRE(train("changed", 1, "train.tokens=1536") == 0);
  const auto [sets, says] = GENERATE(table<std::string, std::string>(
      {{"model.hidden_size=40", "model.hidden_size: 32, now 40"},
       {"model.num_hidden_layers=3", "model.num_hidden_layers: 2, now 3"},
       {"model.num_hidden_layers=1", "model.num_hidden_layers: 2, now 1"},
       {"run.seed=5", "run.seed is 5"}}));
  CHECK(train("changed", 2, sets) == 2);
  const std::string log = log_of("changed");
  INFO(log);
  CHECK(log.find(says) != std::string::npos);
  CHECK(times(log, "falcon-train: ") == 1);
  CHECK(fs::exists(checkpoint_path("changed", 4)));
}

TEST_CASE("failures: a resume says what changed since the checkpoint was written") {
  const std::string name = "says", run = run_folder(name);
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  REQUIRE(train(name, 2,
                "train.tokens=2304 optimizer.lr=1e-3 log.every=2 train.precision=bf16 "
                "data.train.0.weight=2") == 0);
  const std::string log = log_of(name);
  INFO(log);
  const auto changed = [](const auto& event, const std::string& what) {
    for (const auto& change : event["changed"])
      if (change["what"] == what)
        return fmt::format("{} -> {}", change["from"].template get<std::string>(),
                           change["to"].template get<std::string>());
    return std::string();
  };
  REQUIRE(events_of(run, "resume").size() == 1);
  const auto resume = events_of(run, "resume")[0];
  CHECK(resume["from"] == checkpoint_path(name, 4));
  CHECK(changed(resume, "train.tokens") == "1536 -> 2304");
  CHECK(changed(resume, "train.precision") == "fp32 -> bf16");
  CHECK(changed(resume, "ranks") == "1 -> 2");
  CHECK(changed(resume, "log.every") == "1 -> 2");
  CHECK(changed(resume, "data.train[set].weight") == "1 -> 2");
  CHECK_FALSE(changed(resume, "optimizer.lr").empty());
  CHECK(log.find("changed since: ranks: 1 -> 2") != std::string::npos);
  const std::string bitwise = resume["bitwise"].get<std::string>();
  for (const char* what : {"optimizer.lr", "train.precision", "ranks"})
    CHECK(bitwise.find(what) != std::string::npos);
  CHECK(bitwise.find("log.every") == std::string::npos);
  CHECK(log.find("not bit for bit") != std::string::npos);
  // Nothing changed, nothing said.
  REQUIRE(train("same", 1, "train.tokens=1536") == 0);
  REQUIRE(train("same", 1, "") == 0);
  CHECK(log_of("same").find("not bit for bit") == std::string::npos);
  const auto same = events_of(run_folder("same"), "resume")[0];
  CHECK(same["bitwise"] == "yes");
  CHECK(same["changed"].size() == 1);  // train.tokens
  // A new name of the same files is no other blend: the run goes on as it would have.
  REQUIRE(train("same", 1, "data.train.0.name=books") == 0);
  INFO(log_of("same"));
  CHECK(log_of("same").find("'set' -> 'books': the same files") != std::string::npos);
  const auto renamed = events_of(run_folder("same"), "resume").at(1);
  CHECK(renamed["bitwise"] == "yes");
  CHECK(renamed["changed"].size() == 1);
  CHECK(changed(renamed, "data.train[books].name") == "set -> books");
}

TEST_CASE("failures: a source under another name is no change of the run") {
  const std::string name = "moved-source", run = run_folder(name);
  for (const char* end : {".bin", ".idx", ".json"})
    if (fs::exists(make_set() + end))
      fs::copy(make_set() + end, workspace() + "/elsewhere" + end,
               fs::copy_options::overwrite_existing);
  REQUIRE(train(name, 1, "train.tokens=1536") == 0);
  REQUIRE(train(name, 1,
                "data.train.0.name=other data.train.0.path=" + workspace() + "/elsewhere") == 0);
  CHECK(tensors(name, 12) == whole_run());
  const auto resume = events_of(run, "resume").at(0);
  INFO(resume.dump());
  CHECK(resume["bitwise"] == "yes");
  CHECK(resume["changed"].size() == 3);  // name, path, train.tokens
  // What is said before the log is open is in it, too, once.
  const std::string log = read_text(run + "/log.txt");
  CHECK(times(log, "data source 'set' -> 'other': the same files, read on") == 1);
  CHECK(times(log_of(name), "data source 'set' -> 'other': the same files, read on") == 1);
}

TEST_CASE("failures: --resume takes a run for its newest checkpoint") {
  REQUIRE(train("older", 1, "train.tokens=1536") == 0);
  REQUIRE(train("fork", 1, "", "--resume " + run_folder("older") + "/") == 0);
  INFO(log_of("fork"));
  CHECK(log_of("fork").find("its newest checkpoint is " + run_folder("older")) !=
        std::string::npos);
  CHECK(log_of("fork").find("at step 4") != std::string::npos);
  CHECK(tensors("fork", 12) == whole_run());
  CHECK(fs::exists(checkpoint_path("older", 4)));
  // The record of another course is not mixed with this one.
  REQUIRE(train("fork", 1, "", "--resume " + run_folder("older")) == 0);
  CHECK(json_lines(run_folder("fork") + ".old-1/metrics.jsonl").size() == 8);
  CHECK(json_lines(run_folder("fork") + "/metrics.jsonl").size() == 8);
  CHECK(train("fork", 1, "", "--resume " + workspace() + "/text") == 2);
  CHECK(log_of("fork").find("neither a finished checkpoint") != std::string::npos);
}

TEST_CASE("failures: a run that began from a folder of weights does not need it again") {
  const std::string hf = workspace() + "/weights";
  REQUIRE(train("giver", 1, "train.tokens=384") == 0);
  fs::create_directories(hf);
  write_text(hf + "/config.json", R"({"model_type": "falcon_h1"})");
  const Checkpoint checkpoint(checkpoint_path("giver", 1));
  std::map<std::string, std::vector<float>> values;
  std::vector<NamedTensor> list;
  for (const std::string& name : checkpoint.names()) {
    if (name.starts_with("optimizer.")) continue;
    auto& v = values[name] = read_tensor(checkpoint, name);
    list.push_back({name, "F32", checkpoint.shape(name), v.data(), int64_t{4} * std::ssize(v)});
  }
  write_safetensors(hf + "/model.safetensors", list);
  const std::string sets = "model.init_from=" + hf;
  REQUIRE(train("taker", 2, sets) == 0);
  const auto begun = events_of(run_folder("taker"), "init_from");
  REQUIRE(begun.size() == 1);
  CHECK(begun[0]["path"] == hf);
  CHECK(begun[0]["tensors"].get<size_t>() == list.size());
  CHECK(log_of("taker").find("from " + hf) != std::string::npos);
  const auto whole = tensors("taker", 12);
  for (int step : {8, 12}) fs::remove_all(checkpoint_path("taker", step));
  fs::rename(hf, hf + "-gone");
  REQUIRE(train("taker", 2, sets) == 0);
  INFO(log_of("taker"));
  CHECK(log_of("taker").find("is not there any more; the model is the checkpoint's") !=
        std::string::npos);
  CHECK(tensors("taker", 12) == whole);
  CHECK(train("taker", 2, sets, "--resume none") == 2);  // a new start needs it
  CHECK(fs::exists(checkpoint_path("taker", 12)));
}

TEST_CASE("failures: a finished run says so; more tokens let it go on") {
  REQUIRE(train("finished", 1, "train.tokens=1536") == 0);
  REQUIRE(train("finished", 1, "train.tokens=1536") == 0);
  CHECK(log_of("finished").find("nothing is left to do: step 4 of 4; raise train.tokens") !=
        std::string::npos);
  REQUIRE(train("finished", 1, "") == 0);
  CHECK(log_of("finished").find("at step 4") != std::string::npos);
  CHECK(tensors("finished", 12) == whole_run());
}

TEST_CASE("failures: two runs do not share a folder, and a dead one holds nothing") {
  Job first("shared", 1, "train.tokens=1B");
  REQUIRE(first.wait_for_step(2));
  const std::string second = train_command("shared", 1, "train.tokens=1B");
  CHECK(shell(second, "shared-second.log") == 2);
  const std::string log = log_of("shared-second");
  INFO(log);
  CHECK(log.find("another run is at work in this folder") != std::string::npos);
  CHECK(log.find(fmt::format("process {}", first.pid())) != std::string::npos);
  first.kill(SIGKILL);
  CHECK(first.wait() == -SIGKILL);
  CHECK(train("shared", 1, "") == 0);
}
