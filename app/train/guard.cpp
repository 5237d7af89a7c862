#include "app/train/guard.h"

#include "core/check.h"
#include "core/log.h"
#include "core/nan.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

namespace ft {

namespace {

constexpr int64_t kMostSkips = 50;  // in a row; the run will not mend itself after that

// Of all ranks' findings: the first rank's, named; all ranks learn it.
std::string first_finding(Group& all, const std::string& mine) {
  const std::vector<std::string> found = gather_text(all, mine);
  for (size_t r = 0; r < found.size(); ++r)
    if (!found[r].empty()) return fmt::format("rank {}, {}", r, found[r]);
  return "none: the values of each rank are finite, their sum is not";
}

}  // namespace

bool Guard::accept(Group& all, const Outcome& o, const std::function<std::string()>& inspect) {
  const bool finite = std::isfinite(o.loss) && std::isfinite(o.grad_norm);
  const Window seen = window();
  if (finite && o.loss <= seen.bound) {
    take(o.loss);
    return true;
  }
  if (finite) {
    const std::string spiked = fmt::format(
        "loss {:.4f} is a spike: above {:.4f}, mean {:.4f} + {} x standard deviation {:.4f} of {} "
        "steps",
        o.loss, seen.bound, seen.mean, config_.spike.sigma, seen.deviation, losses_.size());
    tell_("spike", o.step,
          {.texts = {{"why", spiked}, {"action", config_.spike.action}},
           .numbers = {{"loss", o.loss}, {"bound", seen.bound}}});
    if (config_.spike.action == "warn") {
      if (all.rank() == 0) log_warn("step {}: {}", o.step, spiked);
      take(o.loss);
      return true;
    }
    if (config_.spike.action == "skip") return leave_out(all, o, "spike", spiked);
    throw SharedError(fmt::format(
        "step {}: {}; no weight was changed. Go on from an earlier checkpoint with a lower "
        "optimizer.lr, or set guard.spike.action: skip to leave such steps out",
        o.step, spiked));
  }
  const bool stop = config_.non_finite == "stop";
  std::string why = fmt::format("loss {} and gradient norm {} are not both finite",
                                unsigned_nan(o.loss), unsigned_nan(o.grad_norm));
  // A replay costs a step, so only the first of many in a row is looked into.
  if (stop || skipped_ == 0)
    why += fmt::format(" (first bad value: {})", first_finding(all, inspect()));
  tell_("non_finite", o.step,
        {.texts = {{"why", why}, {"action", config_.non_finite}},
         .numbers = {{"loss", o.loss}, {"grad_norm", o.grad_norm}}});
  if (!stop) return leave_out(all, o, "non_finite", why);
  throw SharedError(fmt::format(
      "step {}: {}; no weight was changed. Lower optimizer.lr, or set guard.non_finite: skip to "
      "leave such steps out",
      o.step, why));
}

void Guard::leave_out_unlabelled(Group& all, const Outcome& o) {
  tell_("no_labels", o.step, {});
  leave_out(
      all, o, "no_labels",
      "not one of its labels counts: masks leave all of its tokens out, or its documents have "
      "one token");
}

double Guard::loss_bound() const {
  return config_.spike.action == "warn" ? std::numeric_limits<double>::infinity() : window().bound;
}

Guard::Window Guard::window() const {
  const auto known = static_cast<int64_t>(losses_.size());
  if (config_.spike.window == 0 || known < std::max<int64_t>(2, config_.spike.window / 2))
    return {.bound = std::numeric_limits<double>::infinity()};
  double mean = 0, variance = 0;
  for (double x : losses_) mean += x / static_cast<double>(known);
  for (double x : losses_) variance += (x - mean) * (x - mean) / static_cast<double>(known - 1);
  const double deviation = std::sqrt(variance);
  return {mean, deviation, mean + config_.spike.sigma * deviation};
}

bool Guard::leave_out(Group& all, const Outcome& o, const std::string& event,
                      const std::string& why) {
  ++skipped_;
  tell_("skip", o.step, {.texts = {{"why", event}}});
  if (all.rank() == 0)
    log_warn(
        "step {} is left out: {}; no weight was changed, AdamW stays at its step {}, the data go "
        "on",
        o.step, why, o.updates);
  if (skipped_ < kMostSkips) return false;
  if (event == "no_labels")
    throw SharedError(fmt::format(
        "step {}: {} steps in a row were left out; the last: {}. Look at the masks of the sources, "
        "and whether data.sequence_length is longer than the prompts that they leave out",
        o.step, skipped_, why));
  throw SharedError(fmt::format(
      "step {}: {} steps in a row were left out; the last: {}. The weights are those after "
      "AdamW's step {}; go on from an earlier checkpoint with a lower optimizer.lr",
      o.step, skipped_, why, o.updates));
}

void Guard::take(double loss) {
  skipped_ = 0;
  losses_.push_back(loss);
  while (static_cast<int64_t>(losses_.size()) > config_.spike.window) losses_.pop_front();
}

std::string Guard::state() const {
  return nlohmann::json{{"losses", losses_}, {"skipped", skipped_}}.dump();  // reads back exactly
}

void Guard::restore(const std::string& state) {
  try {
    const auto json = nlohmann::json::parse(state);
    losses_ = json.at("losses").get<std::deque<double>>();
    skipped_ = json.at("skipped").get<int64_t>();
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("the checkpoint's state of the guard is damaged: {}", error.what()));
  }
  while (static_cast<int64_t>(losses_.size()) > config_.spike.window) losses_.pop_front();
}

Poison Poison::from_environment() {
  Poison p;
  const char* text = std::getenv("FT_TEST_POISON");
  if (!text) return p;
  char parameter[256] = "", value[64] = "nan";
  long long step = 0;
  const int fields = std::sscanf(text, "%lld:%d:%255[^:]:%63s", &step, &p.rank_, parameter, value);
  FT_CHECK_CONFIG(fields >= 3,
                  "FT_TEST_POISON=\"{}\": expected STEP:RANK:PARAMETER, optionally :VALUE", text);
  p.step_ = step, p.parameter_ = parameter, p.value_ = std::strtod(value, nullptr);
  return p;
}

void Poison::apply(int64_t step, int rank, Store& store) {
  if (step != step_ || rank != rank_) return;
  store.for_pieces([&](Param& p, Piece& piece) {
    if (piece.name != parameter_ || transfer_) return;
    const Tensor row = box(p.value, piece).row_range(0, 1);
    place_ = row.dims > 1 ? row.columns(0, 1) : row;
    transfer_ = &store.transfer();
  });
  FT_CHECK(transfer_, "FT_TEST_POISON: there is no parameter {}", parameter_);
  original_ = static_cast<float>(transfer_->read(place_));
  const auto value = static_cast<float>(value_);
  transfer_->upload(place_, &value);
}

void Poison::heal() {
  if (Transfer* transfer = std::exchange(transfer_, nullptr)) transfer->upload(place_, &original_);
}

}  // namespace ft
