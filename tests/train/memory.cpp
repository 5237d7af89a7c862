// Memory of a step: planned before the first, never grown after it.
#include "app/fit.h"
#include "app/trainer.h"
#include "cpu/common.h"
#include "tests/catch.h"
#include "tests/train/run.h"
#include "tests/world.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("train: nothing is allocated after the first step", "[memory]") {
  const std::string recompute = GENERATE("none", "selective", "full");
  const std::string precision = GENERATE("fp32", "bf16");
  const std::string set = make_set();
  Config config = load_config("tests/train/tiny.yaml",
                              {"data.train.0.path=" + set, "train.recompute=" + recompute,
                               "train.precision=" + precision, "train.micro_batch=3"});
  Trainer trainer(world(), resolve(config));
  trainer.start(std::nullopt);
  trainer.step();
  const int64_t allocations = trainer.engine().device().allocations();
  const int64_t growths = cpu::workspace_growths();
  for (int step = 0; step < 4; ++step) trainer.step();
  CHECK(trainer.engine().device().allocations() == allocations);
  CHECK(cpu::workspace_growths() == growths);
  CHECK(allocations > 0);
}
