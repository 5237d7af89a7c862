#include "app/measure_commands.h"

#include "app/bench.h"
#include "app/command_line.h"
#include "app/doctor.h"
#include "app/evaluate.h"
#include "core/log.h"

#include <memory>

namespace ft {

namespace {

// One process's work: under mpirun rank 0 does it.
Run alone(std::function<int()> work) {
  return [work = std::move(work)](World& world) { return world.all().rank() == 0 ? work() : 0; };
}

}  // namespace

void add_evaluate(CLI::App& app, Run& run) {
  const auto o = std::make_shared<EvaluateOptions>();
  auto* c = app.add_subcommand(
      "evaluate", "Loss, perplexity and bits per byte of a model, or scores of continuations");
  c->footer(
      "Examples:\n"
      "  falcon-train evaluate runs/quickstart\n"
      "  mpirun -n 2 falcon-train evaluate HF_DIR --data web=data/web-val --json web.json\n"
      "  falcon-train evaluate runs/quickstart --score requests.jsonl --out scores.jsonl\n"
      "A line of requests.jsonl: {\"id\": 7, \"context\": \"2 + 2 =\", \"continuation\": \" 4\"}, "
      "or "
      "token ids as context_ids and continuation_ids");
  c->add_option("MODEL", o->model, "Run, checkpoint or Hugging Face folder")->required();
  auto* data = c->add_option("--data", o->data,
                             "Token set to evaluate on (repeatable). Default: the validation sets "
                             "of the run")
                   ->type_name("[NAME=]PREFIX")
                   ->allow_extra_args(false)
                   ->take_all()
                   ->group("Token sets");
  c->add_option("--sequence-length", o->sequence_length,
                "Tokens of a sequence. Default: the run's, else 2048")
      ->transform(whole(1))
      ->group("Token sets");
  c->add_option("--sequences", o->sequences, "Sequences of each set. Default: all")
      ->transform(whole(1))
      ->group("Token sets");
  c->add_option("--batch", o->batch, "Sequences at once. Default: 4096 tokens of them")
      ->transform(whole(1))
      ->group("Token sets");
  auto* json = c->add_option("--json", o->json, "Also write the numbers to a file; -: only them")
                   ->type_name("FILE")
                   ->group("Token sets");
  auto* score =
      c->add_option("--score", o->score,
                    "Score each line's continuation instead: log-probability, greedy match")
          ->type_name("FILE.jsonl")
          ->excludes(data)
          ->excludes(json)
          ->group("Continuations");
  c->add_option("--out", o->out, "File for the scores. Default, or -: standard output")
      ->type_name("FILE")
      ->needs(score)
      ->group("Continuations");
  c->add_option(
       "--max-length", o->max_length,
       "Tokens of context and continuation; longer contexts lose their beginning. Default: "
       "the model's max_position_embeddings")
      ->transform(whole(1))
      ->needs(score)
      ->group("Continuations");
  c->add_option("--tokenizer", o->tokenizer,
                "tokenizer.json, its folder, or bytes, for bits per byte and for lines of text. "
                "Default: what the token set, the run or the model's folder says")
      ->type_name("FILE");
  add_sets(c, o->sets, "train.precision=bf16");
  c->callback([o, &run] {
    run = [o](World& world) {
      log_to_stderr();
      return evaluate(world, *o);
    };
  });
}

void add_bench(CLI::App& app, Run& run) {
  const auto o = std::make_shared<BenchOptions>();
  auto* c = app.add_subcommand(
      "bench", "Every op of a model, or whole steps, against what this machine can do");
  c->footer(
      "Examples:\n"
      "  falcon-train bench --filter gemm --tokens 2048\n"
      "  falcon-train bench configs/quickstart.yaml --step --threads 1 --json bench.json\n"
      "An op's floor is the larger of FLOPs over the matrix-product ceiling and bytes over the "
      "copy "
      "ceiling, both measured in the same run");
  c->add_option("CONFIG", o->configs,
                "YAML files whose models to measure. Default: Tiny-90M and the quickstart");
  c->add_option("--tokens", o->tokens, "Tokens of the one sequence")
      ->transform(whole(1))
      ->capture_default_str();
  c->add_flag("--step", o->step, "Whole optimizer steps: tokens/s, MFU and a profile by op");
  c->add_option("--filter", o->filter, "Only ops whose name or shape holds this text");
  c->add_option("--seconds", o->seconds, "Seconds of measuring, each configuration")
      ->transform(real(Range{0.01, 3600}))
      ->capture_default_str();
  c->add_option("--precision", o->precision, "fp32 or bf16")
      ->check(one_of({"fp32", "bf16"}))
      ->capture_default_str();
  c->add_option("--threads", o->threads, "Threads. Default: as training takes")
      ->transform(whole(1, 4096));
  c->add_option("--json", o->json, "Also write the numbers to a file; -: only them")
      ->type_name("FILE");
  add_sets(c, o->sets, "model.mamba_chunk_size=64");
  c->callback([o, &run] { run = alone([o] { return bench(*o); }); });
}

void add_doctor(CLI::App& app, Run& run) {
  const auto o = std::make_shared<DoctorOptions>();
  auto* c = app.add_subcommand("doctor", "What this machine offers, what is wrong, and the mend");
  c->footer(
      "Examples:\n"
      "  falcon-train doctor --directory /scratch/runs\n"
      "  mpirun -n 4 falcon-train doctor --json doctor.json    (who sits where, how fast they "
      "talk)\n"
      "Exit code 0: nothing is wrong, 1: something is");
  c->add_option("--directory", o->directory, "Folder of the runs; its disk is measured")
      ->capture_default_str();
  c->add_option("--seconds", o->seconds, "Seconds of each measurement")
      ->transform(real(Range{0.01, 600}))
      ->capture_default_str();
  c->add_option("--json", o->json, "Also write the findings to a file; -: only them")
      ->type_name("FILE");
  c->callback([o, &run] { run = [o](World& world) { return doctor(world, *o); }; });
}

}  // namespace ft
