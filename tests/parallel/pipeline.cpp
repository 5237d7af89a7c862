#include "parallel/pipeline.h"

#include "tests/catch.h"

#include <algorithm>
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
