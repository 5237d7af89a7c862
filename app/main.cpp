// Commands and exit codes: 0 done, 1 failed, 2 bad usage or configuration, 75 stopped by a signal
// after saving.
#include "app/build_info.h"
#include "app/command_line.h"
#include "app/commands.h"
#include "app/config.h"
#include "app/measure_commands.h"
#include "app/process_start.h"
#include "app/rank_facts.h"
#include "app/run_folder.h"
#include "app/tokenize.h"
#include "core/heartbeat.h"
#include "core/log.h"
#include "core/mapping_fault.h"
#include "parallel/comm.h"

#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <new>
#include <optional>
#include <thread>
#include <utility>

namespace {

using namespace ft;

// The whole command line. `run` becomes what the chosen command does.
struct CommandLine {
  CLI::App app{
      "Pretrains Falcon-H1 hybrid models (attention and Mamba-2 side by side) and Llamas from one "
      "YAML file"};
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
    run = [work = std::move(work)](World& world) { return world.all().rank() == 0 ? work() : 0; };
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
    add_sets(c, train_options.sets, "optimizer.lr=1e-3");
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
    c->add_option("--world", plan_options.world, "Number of ranks")->transform(whole(1, 1'000'000));
    c->add_option("--memory", plan_options.memory,
                  "GiB that a rank may take; a run that needs more is refused with exit code 2")
        ->transform(real(Range{.low = 0, .above = true}));
    c->add_flag("--schedule", plan_options.schedule,
                "Also a table of learning rate, weight decay and batch over the run");
    c->add_flag("--multipliers", plan_options.multipliers,
                "Only print the closed-form multipliers of this shape, as YAML");
    add_sets(c, plan_options.sets, "train.tokens=10B");
    c->callback([this] { alone([this] { return plan(plan_options); }); });
  }

  void add_tokenize() {
    auto* c = app.add_subcommand(
        "tokenize",
        "Text, JSON Lines and folders to a token set (.bin, .idx, .json): one token a byte, or with "
        "a tokenizer.json");
    c->footer(
        "Example: falcon-train tokenize books/ notes.jsonl.gz --out data/train\n"
        "         falcon-train tokenize web.jsonl.zst --tokenizer llama/tokenizer.json --out "
        "data/web\n"
        "A text file is a document; so is a line of .jsonl or .ndjson. Both may be packed (.gz, "
        ".zst). Kinds of tokenizer.json that are refused here (all but byte-level BPE) work with "
        "scripts/prepare_data.py, which writes the same format");
    TokenizeOptions& o = tokenize_options;
    c->add_option("INPUT", o.inputs, "Files and folders")->required();
    c->add_option("--out", o.out, "Prefix of the files to write")->required()->check(file_name());
    c->add_option("--tokenizer", o.tokenizer,
                  "tokenizer.json or its folder (byte-level BPE). Default: bytes, one token a byte")
        ->type_name("FILE");
    c->add_option("--end-of-document", o.end_of_document,
                  "Token or id that ends each document, or none. Default: what the files beside "
                  "the tokenizer.json name")
        ->type_name("TOKEN");
    c->add_option("--field", o.field, "Field of JSONL lines that holds the text")
        ->capture_default_str();
    c->add_option("--prompt-field", o.prompt_field,
                  "Field of JSONL lines that goes before the text and is left out of the loss");
    c->add_flag("--skip-bad", o.skip_bad,
                "Leave out bad lines and damaged files, and count them. Default: the first ends "
                "the job");
    c->add_option("--threads", o.threads, "0: as many as cores, at most 16")
        ->transform(whole(0, 4096))
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
    c->add_option(
         "--out", report_options.out,
         "File to write; -: standard output. Default: report.html in the run's folder, compare.html "
         "here for several")
        ->type_name("FILE");
    c->callback([this] { alone([this] { return report(report_options); }); });
  }

  void add_generate() {
    auto* c = app.add_subcommand("generate", "Sample from a model");
    c->footer(
        "Example: falcon-train generate runs/quickstart --prompt \"The function\" --tokens 200 "
        "--temperature 0.8");
    GenerateOptions& o = generate_options;
    c->add_option("MODEL", o.model, "Run, checkpoint or Hugging Face folder")->required();
    c->add_option("--prompt", o.prompt, "Text to continue");
    c->add_option_function<std::string>(
         "--prompt-ids",
         [&o](const std::string& text) { o.prompt_ids = whole_list("--prompt-ids", text); },
         "Token ids to continue, comma-separated")
        ->type_name("IDS");
    c->add_option("--tokenizer", o.tokenizer,
                  "tokenizer.json, its folder, or bytes. Default: what the run, its token set or "
                  "the model's folder says")
        ->type_name("FILE");
    c->add_option("--tokens", o.tokens, "Tokens to sample at most")
        ->transform(whole(1))
        ->capture_default_str();
    c->add_option("--temperature", o.temperature, "0: always the likeliest")
        ->transform(real(Range{.low = 0}))
        ->capture_default_str();
    c->add_option("--top-k", o.top_k, "Only the K likeliest; 0: all")
        ->transform(whole(0))
        ->capture_default_str();
    c->add_option("--top-p", o.top_p, "Only the likeliest that together reach P")
        ->transform(real(Range{0, 1}))
        ->capture_default_str();
    c->add_option("--seed", o.seed, "Seed of the sampling")
        ->transform(whole(0, std::numeric_limits<int64_t>::max()))
        ->capture_default_str();
    c->add_option("--samples", o.samples, "How many texts")
        ->transform(whole(1))
        ->capture_default_str();
    c->add_flag("--ignore-end", o.ignore_end, "Go on past the end of a document");
    c->add_option("--format", o.format,
                  "text (UTF-8; other bytes show as U+FFFD), bytes as they are, or ids; auto: text "
                  "where the tokenizer is known")
        ->check(one_of({"auto", "text", "bytes", "ids"}))
        ->capture_default_str();
    add_sets(c, o.sets, "train.precision=bf16");
    c->callback([this] {
      alone([this] {
        log_to_stderr();
        return generate(generate_options);
      });
    });
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
    c->add_option("--out", o.out, "Safetensors file to write")->required()->check(file_name());
    c->add_flag("--gradients", o.gradients, "Also every parameter's gradient");
    c->add_flag("--hidden", o.hidden, "Also the residual stream after each layer");
    add_sets(c, o.sets, "train.precision=bf16");
    c->callback([this] { run = [this](World& world) { return probe(world, probe_options); }; });
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
