#include "parallel/schedule.h"

#include "parallel/recipe.h"
#include "tests/catch.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

using namespace ft;

TEST_CASE("one stage alternates forward and backward", "[schedule]") {
  const auto actions = one_f_one_b(1, 0, 3);
  REQUIRE(actions.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    CHECK(actions[i].kind == (i % 2 ? Action::Backward : Action::Forward));
    CHECK(actions[i].micro == static_cast<int>(i / 2));
  }
}

TEST_CASE("every stage does each micro-batch once and keeps at most stages - stage of them",
          "[schedule]") {
  for (int stages : {1, 2, 3, 4, 7})
    for (int micros : {1, 2, 3, 4, 8, 13})
      for (int stage = 0; stage < stages; ++stage) {
        int forward = 0, backward = 0, most = 0;
        std::map<int, int> kinds;
        for (const Action& a : one_f_one_b(stages, stage, micros)) {
          ++kinds[a.kind];
          if (a.kind == Action::Forward) CHECK(a.micro == forward++);
          if (a.kind == Action::Backward) CHECK(a.micro == backward++);
          CHECK(backward <= forward);
          most = std::max(most, forward - backward);
        }
        CHECK(forward == micros);
        CHECK(backward == micros);
        CHECK(most <= stages - stage);
        CHECK(kinds[Action::SendActivations] == (stage + 1 < stages ? micros : 0));
        CHECK(kinds[Action::ReceiveActivations] == (stage > 0 ? micros : 0));
        CHECK(kinds[Action::SendGradients] == (stage > 0 ? micros : 0));
        CHECK(kinds[Action::ReceiveGradients] == (stage + 1 < stages ? micros : 0));
      }
}

TEST_CASE("all stages together come to an end: no receive waits for a send that never comes",
          "[schedule]") {
  for (int stages : {2, 3, 5})
    for (int micros : {1, 2, 5, 9}) {
      std::vector<std::vector<Action>> work;
      for (int s = 0; s < stages; ++s) work.push_back(one_f_one_b(stages, s, micros));
      std::vector<size_t> at(static_cast<size_t>(stages), 0);
      std::map<std::tuple<int, int, int>, bool> sent;  // receiver, kind of receive, micro-batch
      for (bool moved = true; moved;) {
        moved = false;
        for (int s = 0; s < stages; ++s) {
          auto& i = at[static_cast<size_t>(s)];
          if (i == work[static_cast<size_t>(s)].size()) continue;
          const Action a = work[static_cast<size_t>(s)][i];
          if ((a.kind == Action::ReceiveActivations || a.kind == Action::ReceiveGradients) &&
              !sent[{s, a.kind, a.micro}])
            continue;
          if (a.kind == Action::SendActivations)
            sent[{s + 1, Action::ReceiveActivations, a.micro}] = true;
          if (a.kind == Action::SendGradients)
            sent[{s - 1, Action::ReceiveGradients, a.micro}] = true;
          ++i;
          moved = true;
        }
      }
      for (int s = 0; s < stages; ++s)
        CHECK(at[static_cast<size_t>(s)] == work[static_cast<size_t>(s)].size());
    }
}

TEST_CASE("learning rate factors by hand", "[schedule]") {
  LrSchedule s{"constant", 100, 0, 1000, 0.1, "exponential"};
  CHECK(lr_factor(s, 50) == 0.5);
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 1000) == 1);
  s.type = "linear";
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 550) == Approx(0.55));
  CHECK(lr_factor(s, 1000) == Approx(0.1));
  CHECK(lr_factor(s, 5000) == Approx(0.1));
  s.type = "cosine";
  CHECK(lr_factor(s, 25) == 0.25);
  CHECK(lr_factor(s, 550) == Approx(0.55));                               // half-way: (1 + 0.1) / 2
  CHECK(lr_factor(s, 325) == Approx(0.1 + 0.45 * (1 + std::sqrt(0.5))));  // a quarter: cos(pi / 4)
  CHECK(lr_factor(s, 1000) == Approx(0.1));
  s.type = "wsd", s.decay = 200, s.final_ratio = 0.01;
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 800) == 1);
  CHECK(lr_factor(s, 900) == Approx(0.1));  // 0.01^(1/2)
  CHECK(lr_factor(s, 1000) == Approx(0.01));
  s.decay_shape = "linear";
  CHECK(lr_factor(s, 900) == Approx(0.505));
  s.decay_shape = "cosine";
  CHECK(lr_factor(s, 900) == Approx(0.505));
  CHECK(lr_factor(s, 850) == Approx(0.01 + 0.495 * (1 + std::sqrt(0.5))));
  s.warmup = 0;
  CHECK(lr_factor(s, 0) == 1);
}
