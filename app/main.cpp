// Commands and exit codes: 0 done, 1 failed, 2 bad usage or configuration, 75 stopped by a signal
// after saving.
#include "app/build_info.h"
#include "app/commands.h"
#include "app/config.h"
#include "app/measure_commands.h"
#include "app/run_folder.h"
#include "app/tokenize.h"
#include "core/log.h"
#include "core/mapping_fault.h"
#include "core/options.h"
#include "parallel/comm.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <new>
#include <string_view>
#include <thread>

namespace {

using namespace ft;

constexpr int kUsage = 2;

void add_sets(CLI::App* command, std::vector<std::string>& sets) {
  command
      ->add_option("--set", sets, "Override one setting, e.g. --set optimizer.lr=1e-3 (repeatable)")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false)
      ->take_all();
}

// The whole command line. `run` becomes what the chosen command does.
struct CommandLine {
  CLI::App app{
      "Pretrains Falcon-H1 hybrid models (attention and Mamba-2 side by side) from one YAML file"};
  TrainOptions train_options;
  PlanOptions plan_options;
  ProbeOptions probe_options;
  GenerateOptions generate_options;
  InspectOptions inspect_options;
  ReportOptions report_options;
  TokenizeOptions tokenize_options;
  bool help_config = false;
  std::function<int(World&)> run;

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
    add_train();
    add_plan();
    add_tokenize();
    add_inspect();
    add_report();
    add_generate();
    add_probe();
    add_evaluate(app, run);
    add_bench(app, run);
    add_doctor(app, run);
  }

  // For commands that are one process's work: under mpirun rank 0 does it, the others wait.
  void alone(std::function<int()> work) {
    run = [work](World& world) { return world.all().rank() == 0 ? work() : 0; };
  }

  void add_train() {
    auto* c = app.add_subcommand("train", "Pretrain a model");
    c->footer(
        "Example: mpirun -n 2 falcon-train train configs/quickstart.yaml --set optimizer.lr=1e-3");
    c->add_option("CONFIG", train_options.config, "YAML file");
    c->add_option("--resume", train_options.resume,
                  "auto (newest complete checkpoint of the run), none, or a path")
        ->capture_default_str();
    c->add_flag("--dry-run", train_options.dry_run, "Stop after the plan");
    c->add_flag("--help-config", help_config, "Print every setting with type, default and meaning");
    add_sets(c, train_options.sets);
    c->callback([this] {
      run = [this](World& world) {
        if (help_config) {
          if (world.all().rank() == 0) std::fputs(config_help().c_str(), stdout);
          return 0;
        }
        FT_CHECK_CONFIG(
            !train_options.config.empty(),
            "train: CONFIG is missing. Example: falcon-train train configs/quickstart.yaml");
        return train(world, train_options);
      };
    });
  }

  void add_plan() {
    auto* c =
        app.add_subcommand("plan", "Parameters, FLOPs and memory of a run, without running it");
    c->footer(
        "Example: falcon-train plan configs/falcon-h1-0.5b.yaml --world 8 --memory 80 --schedule");
    c->add_option("CONFIG", plan_options.config,
                  "YAML file (for --multipliers also a Hugging Face config.json)")
        ->required();
    c->add_option("--world", plan_options.world, "Number of ranks")->check(CLI::PositiveNumber);
    c->add_option("--memory", plan_options.memory,
                  "GiB that a rank may take; a run that needs more is refused with exit code 2")
        ->check(CLI::PositiveNumber);
    c->add_flag("--schedule", plan_options.schedule,
                "Also a table of learning rate, weight decay and batch over the run");
    c->add_flag("--multipliers", plan_options.multipliers,
                "Only print the closed-form multipliers of this shape, as YAML");
    add_sets(c, plan_options.sets);
    c->callback([this] { alone([this] { return plan(plan_options); }); });
  }

  void add_tokenize() {
    auto* c = app.add_subcommand("tokenize",
                                 "Text, JSONL and folders to a token set (.bin, .idx, .json)");
    c->footer("Example: falcon-train tokenize books/ notes.jsonl.gz --out data/train");
    c->add_option("INPUT", tokenize_options.inputs, "Files and folders")->required();
    c->add_option("--out", tokenize_options.out, "Prefix of the files to write")->required();
    c->add_option("--field", tokenize_options.field, "Field of JSONL lines that holds the text")
        ->capture_default_str();
    c->add_option("--prompt-field", tokenize_options.prompt_field,
                  "Field of JSONL lines that goes before the text and is left out of the loss");
    c->add_option("--threads", tokenize_options.threads, "0: as many as cores, at most 16")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c->callback([this] {
      alone([this] {
        tokenize(tokenize_options);
        return 0;
      });
    });
  }

  void add_inspect() {
    auto* c = app.add_subcommand("inspect",
                                 "What is this checkpoint, token set, safetensors file or run");
    c->footer("Example: falcon-train inspect runs/quickstart/checkpoints/step-00000100 --verify");
    c->add_option("PATH", inspect_options.path, "File, folder or prefix")->required();
    c->add_flag("--verify", inspect_options.verify, "Read every byte and check it");
    c->add_option("--tokenizer", inspect_options.tokenizer,
                  "tokenizer.json, its folder, or bytes, to show a token set as text. Default: the "
                  "one that the set names")
        ->type_name("FILE");
    c->callback([this] { alone([this] { return inspect(inspect_options); }); });
  }

  void add_report() {
    auto* c = app.add_subcommand("report", "One HTML page of a run's plots, or of several runs'");
    c->footer(
        "Example: falcon-train report runs/quickstart --out report.html\n"
        "         falcon-train report runs/a runs/b --out compare.html");
    c->add_option("RUN_DIR", report_options.runs, "Folders of runs; several are compared")
        ->required();
    c->add_option("--out", report_options.out, "File to write; report.html in the run's folder");
    c->callback([this] { run = [this](World&) { return report(report_options); }; });
  }

  void add_generate() {
    auto* c = app.add_subcommand("generate", "Sample from a model");
    c->footer(
        "Example: falcon-train generate runs/quickstart --prompt \"The function\" --tokens 200 "
        "--temperature 0.8");
    GenerateOptions& o = generate_options;
    c->add_option("MODEL", o.model, "Run, checkpoint or Hugging Face folder")->required();
    c->add_option("--prompt", o.prompt, "Text to continue");
    c->add_option("--prompt-ids", o.prompt_ids, "Token ids to continue, comma-separated")
        ->delimiter(',');
    c->add_option("--tokenizer", o.tokenizer,
                  "tokenizer.json, its folder, or bytes. Default: what the run, its token set or "
                  "the model's folder says")
        ->type_name("FILE");
    c->add_option("--tokens", o.tokens, "Tokens to sample at most")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c->add_option("--temperature", o.temperature, "0: always the likeliest")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c->add_option("--top-k", o.top_k, "Only the K likeliest; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c->add_option("--top-p", o.top_p, "Only the likeliest that together reach P")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    c->add_option("--seed", o.seed, "Seed of the sampling")->capture_default_str();
    c->add_option("--samples", o.samples, "How many texts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c->add_flag("--ignore-end", o.ignore_end, "Go on past the end of a document");
    c->add_option("--format", o.format,
                  "text (UTF-8; other bytes show as U+FFFD), bytes as they are, or ids; auto: text "
                  "where the tokenizer is known")
        ->check(CLI::IsMember({"auto", "text", "bytes", "ids"}))
        ->capture_default_str();
    add_sets(c, o.sets);
    c->callback([this] { alone([this] { return generate(generate_options); }); });
  }

  void add_probe() {
    auto* c = app.add_subcommand("probe", "Logits, loss and gradients of a model on given tokens");
    c->footer(
        "Example: mpirun -n 2 falcon-train probe HF_DIR --tokens tokens.safetensors --out "
        "out.safetensors --gradients");
    ProbeOptions& o = probe_options;
    c->add_option("MODEL", o.model, "Hugging Face folder, checkpoint or run")->required();
    c->add_option("--tokens", o.tokens,
                  "Safetensors file: input_ids [B, T], optional labels, document_ids")
        ->required();
    c->add_option("--out", o.out, "Safetensors file to write")->required();
    c->add_flag("--gradients", o.gradients, "Also every parameter's gradient");
    c->add_flag("--hidden", o.hidden, "Also the residual stream after each layer");
    add_sets(c, o.sets);
    c->callback([this] { run = [this](World& world) { return probe(world, probe_options); }; });
  }
};

// The exit code of an error, after one message from one rank. What all ranks know of ends the job
// in order; what this rank alone may know of ends the others too.
int fail(World* world, const std::string& text, int code, bool shared) {
  const bool alone = !world || world->all().size() == 1;
  const bool speaks = alone || (shared ? world->all().rank() == 0 : world->claim_word());
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

// The known command or option nearest to an argument that is neither, as a sentence; or empty.
std::string hint(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  std::vector<std::string> known;
  for (const CLI::App* one : app.get_subcommands({})) known.push_back(one->get_name());
  for (int i = 1; i < argc; ++i) {
    const std::string word(
        std::string_view(argv[i]).substr(0, std::string_view(argv[i]).find('=')));
    if (command == &app && std::find(known.begin(), known.end(), word) != known.end()) {
      command = app.get_subcommand(word);
      known.clear();
      for (const CLI::Option* option : command->get_options()) known.push_back(option->get_name());
    } else if (command == &app || word.starts_with("--")) {
      const bool is_known = std::find(known.begin(), known.end(), word) != known.end();
      const std::string near = is_known ? "" : nearest(word, known);
      if (!near.empty()) return fmt::format("Did you mean {} instead of {}?\n", near, word);
    }
  }
  return "";
}

int usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (argc == 1) {
    std::fputs(app.help().c_str(), stderr);
    return kUsage;
  }
  if (app.exit(error) == 0) return 0;
  std::fputs(hint(app, argc, argv).c_str(), stderr);
  return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  std::unique_ptr<World> world;
  try {
    world = World::open(&argc, &argv);
    explain_mapping_faults();  // after MPI, which may set handlers of its own
    const bool chief = world->all().rank() == 0;
    try {
      line.app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (chief) {
        const int code = usage_error(line.app, error, argc, argv);
        return finish_stdout() || code != 0 ? code : 1;
      }
      return error.get_exit_code() == 0 ? 0 : kUsage;
    }
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
