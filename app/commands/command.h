// The commands of falcon-train: a file each, with its options, its words and its work.
#pragma once

#include "parallel/comm/comm.h"

#include <functional>

namespace CLI {
class App;
}

namespace ft {

using Run = std::function<int(World&)>;  // returns the exit code

// Each adds its command to the command line; a command that is chosen becomes `run`.
void add_train(CLI::App& app, Run& run);
void add_plan(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_report(CLI::App& app, Run& run);
void add_generate(CLI::App& app, Run& run);
void add_probe(CLI::App& app, Run& run);
void add_evaluate(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);

// One process's work: under mpirun rank 0 does it, the others wait. In command_line.cpp.
Run alone(std::function<int()> work);

}  // namespace ft
