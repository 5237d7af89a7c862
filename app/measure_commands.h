// Command lines of the commands that measure: a model (evaluate), the ops (bench), the machine
// (doctor). Each registers its options and, when chosen, sets `run`.
#pragma once

#include "parallel/comm.h"

#include <functional>

namespace CLI {
class App;
}

namespace ft {

using Run = std::function<int(World&)>;
void add_evaluate(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);

}  // namespace ft
