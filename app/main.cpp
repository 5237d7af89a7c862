// Commands and exit codes: 0 done, 1 failed, 2 bad usage or configuration, 75 stopped by a signal
// after saving.
#include "app/commands/command.h"
#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/machine/build_info.h"
#include "app/machine/process_start.h"
#include "app/run/run_folder.h"
#include "app/train/rank_facts.h"
#include "core/heartbeat.h"
#include "core/log.h"
#include "core/mapping_fault.h"
#include "parallel/comm/comm.h"

#include <chrono>
#include <cstdio>
#include <new>
#include <optional>
#include <thread>

namespace {

using namespace ft;

// The whole command line. `run` becomes what the chosen command does.
struct CommandLine {
  CLI::App app{
      "Pretrains Falcon-H1 hybrid models (attention and Mamba-2 side by side) and Llamas from one "
      "YAML file"};
  Run run;

  CommandLine() {
    app.require_subcommand(1);
    app.footer(
        "Example: falcon-train train configs/quickstart.yaml\n"
        "falcon-train COMMAND --help explains a command. Exit codes: 0 done, 1 failed, 2 wrong "
        "usage or configuration, 75 stopped by a signal after saving");
    app.set_version_flag("--version", [] {
      std::string text = build_text();
      text.pop_back();  // CLI11 ends the line
      return text;
    });
    for (const auto add : {add_train, add_plan, add_tokenize, add_inspect, add_report, add_generate,
                           add_probe, add_evaluate, add_bench, add_doctor})
      add(app, run);
  }
};

// The exit code of an error, after one message from one rank. What all ranks know of ends the job
// in order; what this rank alone may know of ends the others too.
int fail(World* world, const std::string& text, int code, bool shared) {
  const bool alone = !world || world->all().size() == 1;
  const bool speaks = alone || (shared ? world->all().rank() == 0 : heartbeat::claim_word());
  if (speaks) {
    std::fprintf(stderr, "falcon-train: %s\n", text.c_str());
    log_last_words(text);
    record_failure(text, code);
  }
  if (alone || shared) return code;
  if (!speaks) std::this_thread::sleep_for(std::chrono::seconds(10));  // the speaker ends us
  world->abort(code);
  return code;
}

// Opens the world, does what the command line says, and returns the exit code.
int run(int argc, char** argv, std::unique_ptr<World>& world) {
  CommandLine line;
  try {
    heartbeat::set_timeout(timeout_of(argc, argv));
    world = World::open(&argc, &argv);
    explain_mapping_faults();  // after MPI, which may set handlers of its own
    const bool chief = world->all().rank() == 0;
    const auto usage = parse_command_line(line.app, argc, argv, chief);
    if (world->all().size() > 1)
      agree(world->all(),
            process_facts(argc > 1 ? argv[1] : "", usage ? std::to_string(*usage) : ""));
    if (usage) return finish_stdout() || *usage != 0 ? *usage : 1;
    log_open("", chief);
    const int code = line.run(*world);
    return finish_stdout() || code != 0 ? code : 1;
  } catch (const SharedError& error) {
    return fail(world.get(), error.what(), error.exit_code(), true);
  } catch (const Error& error) {
    return fail(world.get(), error.what(), error.exit_code(), false);
  } catch (const std::bad_alloc&) {
    return fail(world.get(), "out of memory on the host; use smaller micro-batches", 1, false);
  } catch (const std::exception& error) {
    return fail(world.get(), error.what(), 1, false);
  }
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process(argc, argv);
  std::unique_ptr<World> world;
  const int code = run(argc, argv, world);
  if (world) world->set_exit_code(code);
  return code;
}
