// Recipes in a run: the ramp, weight decay, groups, z-loss, validation sets.
#include "tests/catch.h"

#include "tests/train/run.h"

#include <nlohmann/json.hpp>

#include <sstream>

using namespace ft;
using namespace ft::test;

namespace {

std::vector<nlohmann::json> metrics(const std::string& name) {
  std::istringstream lines(read_text(workspace() + "/" + name + "/t/metrics.jsonl"));
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(lines, line);) out.push_back(nlohmann::json::parse(line));
  return out;
}
std::string log_of(const std::string& name) { return read_text(workspace() + "/" + name + ".log"); }
bool has(const std::string& text, const std::string& part) {
  INFO(text << "\nhas " << part);
  CHECK(text.find(part) != std::string::npos);
  return true;
}

}  // namespace

TEST_CASE("recipe: a ramped run takes the ramp's batches and resumes bit for bit within it") {
  // 48 tokens a sequence: 2 steps of 96 to 192, 3 of 192 to 768, 10 of 384 to 4608.
  const std::string sets =
      "schedule.batch_ramp=[[0,2],[192,4],[768,8]] schedule.batch_ramp_lr=sqrt "
      "schedule.weight_decay.type=points schedule.weight_decay.points=[[700,1],[700,0]]";
  REQUIRE(train("ramp", 2, sets) == 0);
  const auto rows = metrics("ramp");
  REQUIRE(rows.size() == 15);
  const int64_t tokens[] = {96, 192, 384, 576, 768, 1152, 1536};
  for (size_t i = 0; i < 7; ++i) CHECK(rows[i].at("tokens") == tokens[i]);
  CHECK(rows[0].at("lr").get<double>() == Approx(3e-3 / 2));  // sqrt(2 / 8)
  CHECK(rows[2].at("lr").get<double>() == Approx(3e-3 / std::sqrt(2.0)));
  CHECK(rows[14].at("lr").get<double>() == Approx(3e-3));
  REQUIRE(train("ramp-cut", 2, sets) == 0);
  for (int step : {8, 12, 15})
    fs::remove_all(fmt::format("{}/ramp-cut/t/checkpoints/step-{:08}", workspace(), step));
  REQUIRE(train("ramp-cut", 2, sets) == 0);
  has(log_of("ramp-cut"), "at step 4");
  CHECK(tensors("ramp-cut", 15) == tensors("ramp", 15));
}

TEST_CASE("recipe: weight decay that falls to nothing is no weight decay") {
  REQUIRE(train("none", 1, "train.tokens=1536 optimizer.weight_decay=0") == 0);
  REQUIRE(train("zero", 1,
                "train.tokens=1536 optimizer.weight_decay=0.5 schedule.weight_decay.type=points "
                "schedule.weight_decay.points=[[0,0]]") == 0);
  REQUIRE(train("some", 1, "train.tokens=1536 optimizer.weight_decay=0.5") == 0);
  CHECK(tensors("zero", 4) == tensors("none", 4));
  CHECK(tensors("some", 4) != tensors("none", 4));
}

TEST_CASE("recipe: a learning rate of 0 for all classes but one moves that one alone") {
  REQUIRE(train("groups", 1,
                "optimizer.groups.0.class=?* optimizer.groups.0.lr_multiplier=0 "
                "optimizer.groups.1.class=up optimizer.groups.1.lr_multiplier=1 "
                "train.tokens=1152 checkpoint.every=1") == 0);
  const auto file = [&](int step) {
    return SafetensorsFile(fmt::format("{}/groups/t/checkpoints/step-{:08}/rank-00000.safetensors",
                                       workspace(), step));
  };
  const SafetensorsFile before = file(1), after = file(3);
  int moved = 0;
  for (const auto& [tensor, info] : before.tensors()) {
    if (tensor.rfind("optimizer.", 0) == 0) continue;
    const bool is_up = tensor.find(".up_proj.") != std::string::npos;
    INFO(tensor);
    CHECK((before.read_f32(tensor) != after.read_f32(tensor)) == is_up);
    moved += is_up;
  }
  CHECK(moved == 2);
}

TEST_CASE("recipe: z-loss changes the gradients, not the loss that is shown") {
  REQUIRE(train("plain", 1, "train.tokens=768") == 0);
  REQUIRE(train("z", 1, "train.tokens=768 train.z_loss=0.1") == 0);
  const auto plain = metrics("plain"), z = metrics("z");
  CHECK(plain[0].at("loss") == z[0].at("loss"));
  CHECK(plain[0].at("grad_norm") != z[0].at("grad_norm"));
  CHECK(tensors("plain", 2) != tensors("z", 2));
}

TEST_CASE("recipe: several validation sets, also before the first step") {
  const std::string set = workspace() + "/set";
  REQUIRE(train("sets", 2,
                fmt::format("data.validation.0.path={0} data.validation.0.name=one "
                            "data.validation.1.path={0} data.validation.1.name=two "
                            "validate.every=2 validate.sequences=5 validate.at_start=true "
                            "train.tokens=1536",
                            set)) == 0);
  int seen = 0;
  for (const auto& row : metrics("sets"))
    if (row.contains("validation")) {
      const int64_t step = row.at("step");
      CHECK(step == seen / 2 * 2);
      CHECK(row.at("validation") == (seen % 2 ? "two" : "one"));
      CHECK(row.at("tokens").get<int64_t>() > 0);
      ++seen;
    }
  CHECK(seen == 6);
}

TEST_CASE("recipe: mistakes are found before the first step and name their place") {
  CHECK(train("bad", 1, "optimizer.groups.0.class=head") == 2);
  has(log_of("bad"), "class \"head\" finds no parameter of this model");
  CHECK(train("bad", 2, "schedule.batch_ramp=[[0,3],[96,8]]") == 2);
  has(log_of("bad"), "schedule.batch_ramp = 3 does not divide by 2 data-parallel ranks");
  CHECK(train("bad", 2, "train.global_batch=9") == 2);
  has(log_of("bad"), "train.global_batch = 9 does not divide by 2 data-parallel ranks");
  CHECK(train("bad", 1, "train.z_loss=-1") == 2);
  has(log_of("bad"), "train.z_loss = -1 is out of range; expected at least 0");
  CHECK_FALSE(fs::exists(workspace() + "/bad/t/metrics.jsonl"));
}
