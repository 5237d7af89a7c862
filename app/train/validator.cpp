#include "app/train/validator.h"

#include "core/log.h"
#include "data/set_info.h"
#include "parallel/health.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

double bytes_a_token(const std::string& prefix) {
  const auto info = read_set_info(prefix);
  return info && info->bytes > 0 && info->tokens > 0
             ? static_cast<double>(info->bytes) / static_cast<double>(info->tokens)
             : 0;
}

}  // namespace

std::string validation_line(const ValidationRecord& r) {
  const std::string begin = fmt::format("validation {} after step {}: ", r.set, r.step);
  if (r.tokens == 0) return begin + "no labels";
  if (!std::isfinite(r.loss)) return begin + fmt::format("loss is not finite, {} tokens", r.tokens);
  const std::string bits =
      std::isfinite(r.bits_per_byte) ? fmt::format(", {:.4f} bits per byte", r.bits_per_byte) : "";
  return begin + fmt::format("loss {:.4f}, perplexity {:.2f}{}, {} tokens", r.loss,
                             std::exp(r.loss), bits, r.tokens);
}

Validator::Validator(World& world, const Config& config, Trainer& trainer)
    : world_(world), config_(config), trainer_(trainer) {
  const Group& data = *trainer.mesh().data;
  together(world.all(), [&] {
    for (const DataSource& source : config.data.validation) {
      const ValidationBatches opened(source, config.data, config.model.vocab_size,
                                     config.validate.sequences, config.train.micro_batch,
                                     data.rank(), data.size());
      sets_.push_back({source, bytes_a_token(source.path)});
    }
  });
}

bool Validator::is_due(int64_t step, int64_t steps) const {
  const int64_t every = config_.validate.every;
  return every > 0 && !sets_.empty() && (step == steps || step % every == 0);
}

bool Validator::run(int64_t step, bool last, RunFolder* folder, Progress& progress) {
  return run(std::vector<Set>(sets_), step, last, folder, progress);
}

bool Validator::catch_up(int64_t step, bool last, RunFolder* folder, Progress& progress) {
  std::vector<Set> missing;
  for (const Set& set : sets_)
    if (all_max(world_.all(), int64_t{folder && folder->was_validated(set.source.name)}) == 0)
      missing.push_back(set);
  return run(missing, step, last, folder, progress);
}

bool Validator::run(const std::vector<Set>& sets, int64_t step, bool last, RunFolder* folder,
                    Progress& progress) {
  for (const Set& set : sets) {
    const Progress::Busy busy(progress, "validating on " + set.source.name);
    try {
      if (!read(set, step, last, folder)) return false;
    } catch (const SharedError& error) {
      if (step == 0) throw SharedError(error.what(), 2);
      std::erase_if(sets_, [&](const Set& s) { return s.source.name == set.source.name; });
      if (!folder) continue;
      log_error(
          "validation {} after step {}: {}; the run goes on without this set: mend it, and it is "
          "read again when the run is resumed",
          set.source.name, step, error.what());
      folder->event("validation_failed", step,
                    {.texts = {{"set", set.source.name}, {"why", error.what()}}});
    }
  }
  return true;
}

bool Validator::read(const Set& set, int64_t step, bool last, RunFolder* folder) {
  const auto result = trainer_.validate(set.source);
  if (!result) return false;
  const auto [loss, tokens] = *result;
  double frequencies = kUnknown;
  if (last)
    together(world_.all(), [&] {
      if (folder)
        frequencies = unigram_entropy(set.source, config_.data, config_.model.vocab_size,
                                      config_.validate.sequences);
    });
  if (!folder) return true;
  const double bytes = set.bytes_a_token;
  const ValidationRecord record{
      .step = step,
      .set = set.source.name,
      .loss = loss,
      .tokens = tokens,
      .bits_per_byte = bytes > 0 ? loss / std::log(2.0) / bytes : kUnknown};
  folder->add(record);
  log_info("{}", validation_line(record));
  if (last)
    log_info(
        "validation {}: a model that knows only how often each token occurs would reach {:.4f}",
        set.source.name, frequencies);
  return true;
}

}  // namespace ft
