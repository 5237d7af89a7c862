// Of the tests that run on the protected device (tests/protected_device.h): that they do.
#include "core/file.h"
#include "tests/catch.h"
#include "tests/train/run.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("protected: the program under test opens protected devices", "[.protected]") {
  REQUIRE(train("protected", 2, "") == 0);
  const Checkpoint checkpoint(checkpoint_path("protected", 12));
  bool named = false;
  for (const auto& [key, text] : checkpoint.state())
    named = named || text.find(", protected") != std::string::npos;
  CHECK(named);
}
