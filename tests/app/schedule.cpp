#include "app/train/schedule.h"

#include "tests/catch.h"

#include <cmath>

using namespace ft;

namespace {

Recipe ramped() {
  Recipe r;
  r.lr = {.type = "constant", .total = 10'000};
  r.batch = {{0, 2}, {1000, 5}, {4000, 8}};
  r.sequence_length = 100;
  r.total = 10'000;
  return r;
}

}  // namespace

TEST_CASE("learning rate factors by hand", "[schedule]") {
  LrSchedule s{.type = "constant", .warmup = 100, .total = 1000};
  CHECK(lr_factor(s, 50) == 0.5);
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 1000) == 1);
  s.type = "linear";
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 550) == Approx(0.55));
  CHECK(lr_factor(s, 1000) == Approx(0.1));
  CHECK(lr_factor(s, 5000) == Approx(0.1));
  s.type = "cosine";
  CHECK(lr_factor(s, 25) == 0.25);
  CHECK(lr_factor(s, 550) == Approx(0.55));                               // half-way: (1 + 0.1) / 2
  CHECK(lr_factor(s, 325) == Approx(0.1 + 0.45 * (1 + std::sqrt(0.5))));  // a quarter: cos(pi / 4)
  CHECK(lr_factor(s, 1000) == Approx(0.1));
  s.type = "wsd", s.decay = 200, s.final_ratio = 0.01;
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 800) == 1);
  CHECK(lr_factor(s, 900) == Approx(0.1));  // 0.01^(1/2)
  CHECK(lr_factor(s, 1000) == Approx(0.01));
  s.decay_shape = "linear";
  CHECK(lr_factor(s, 900) == Approx(0.505));
  s.decay_shape = "cosine";
  CHECK(lr_factor(s, 900) == Approx(0.505));
  CHECK(lr_factor(s, 850) == Approx(0.01 + 0.495 * (1 + std::sqrt(0.5))));
  s.warmup = 0;
  CHECK(lr_factor(s, 0) == 1);
}

TEST_CASE("power: one until its start, continuous there, then tokens^-1/4", "[schedule]") {
  LrSchedule s{.type = "power", .warmup = 100, .total = 100'000};
  CHECK(lr_factor(s, 50) == 0.5);
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 100.01) == Approx(1).epsilon(1e-3));
  CHECK(lr_factor(s, 1600) == Approx(0.5));      // 16^-1/4
  CHECK(lr_factor(s, 8100) == Approx(1.0 / 3));  // 81^-1/4
  CHECK(lr_factor(s, 100'000) == Approx(std::pow(1000, -0.25)));
  s.power_start = 400;  // later than the warm-up: stable between them
  CHECK(lr_factor(s, 400) == 1);
  CHECK(lr_factor(s, 6400) == Approx(0.5));
  s.exponent = 0.5;
  CHECK(lr_factor(s, 6400) == Approx(0.25));
  s = {.type = "power", .warmup = 100, .decay = 1600, .total = 9700, .final_ratio = 0.01};
  CHECK(lr_factor(s, 8100) == Approx(1.0 / 3));  // the decay begins here
  CHECK(lr_factor(s, 8900) == Approx(0.1 / 3));  // half of an exponential to 1/100
  CHECK(lr_factor(s, 9700) == Approx(0.01 / 3));
}

TEST_CASE("weight decay follows its own schedule", "[schedule]") {
  Recipe r = ramped();
  CHECK(weight_decay_factor(r, 1) == 1);
  CHECK(weight_decay_factor(r, 10'000) == 1);
  r.weight_decay = {.type = "linear", .start = 6000, .final_ratio = 0.5};
  CHECK(weight_decay_factor(r, 6000) == 1);
  CHECK(weight_decay_factor(r, 8000) == Approx(0.75));
  CHECK(weight_decay_factor(r, 10'000) == Approx(0.5));
  r.weight_decay.type = "cosine";
  CHECK(weight_decay_factor(r, 7000) == Approx(0.5 + 0.25 * (1 + std::sqrt(0.5))));
  r.lr = {.type = "power", .warmup = 100, .decay = 1000, .total = 10'000};
  r.weight_decay = {};  // auto: as t^-1/4, without warm-up or final decay
  CHECK(weight_decay_factor(r, 50) == 1);
  CHECK(weight_decay_factor(r, 1600) == Approx(0.5));
  CHECK(weight_decay_factor(r, 10'000) == Approx(std::pow(100, -0.25)));
  r.weight_decay.type = "constant";
  CHECK(weight_decay_factor(r, 1600) == 1);
  r.weight_decay.type = "lr";
  CHECK(weight_decay_factor(r, 50) == 0.5);
}

TEST_CASE("points: lines between, jumps where two share a place", "[schedule]") {
  // BitNet's two stages: warm-up, linear fall, a drop at half, linear to 0; no weight decay after.
  LrSchedule s{.type = "points",
               .total = 1000,
               .points = {{0, 0}, {100, 1}, {500, 0.6}, {500, 0.4}, {1000, 0}}};
  CHECK(lr_factor(s, 0) == 0);
  CHECK(lr_factor(s, 25) == 0.25);
  CHECK(lr_factor(s, 100) == 1);
  CHECK(lr_factor(s, 300) == Approx(0.8));
  CHECK(lr_factor(s, 500) == Approx(0.6));
  CHECK(lr_factor(s, 500.001) == Approx(0.4).epsilon(1e-4));
  CHECK(lr_factor(s, 750) == Approx(0.2));
  CHECK(lr_factor(s, 2000) == 0);
  Recipe r = ramped();
  r.weight_decay = {.type = "points", .points = {{500, 1}, {500, 0}}};
  CHECK(weight_decay_factor(r, 10) == 1);
  CHECK(weight_decay_factor(r, 500) == 1);
  CHECK(weight_decay_factor(r, 501) == 0);
  CHECK(points_factor({}, 5) == 1);
  CHECK(points_factor({{10, 3}}, 5) == 3);
  CHECK(points_factor({{10, 3}}, 50) == 3);
}

TEST_CASE("batch ramp: a pure function of the tokens seen", "[schedule]") {
  Recipe r = ramped();
  CHECK(recipe_step(r, 0).batch == 2);
  CHECK(recipe_step(r, 999).batch == 2);
  CHECK(recipe_step(r, 1000).batch == 5);
  CHECK(recipe_step(r, 4000).batch == 8);
  CHECK(recipe_step(r, 1'000'000).batch == 8);
  CHECK(recipe_step(r, 1000).tokens_after == 1500);
  CHECK(recipe_step(r, 0).lr_factor == 1);
  r.sqrt_lr = true;
  CHECK(recipe_step(r, 0).lr_factor == 0.5);  // sqrt(2 / 8)
  CHECK(recipe_step(r, 4000).lr_factor == 1);

  // 200 tokens a step to 1000 (5 steps), 500 to 4000 (6), 800 to 10 400 (8).
  CHECK(steps_left(r, 0) == 19);
  CHECK(steps_left(r, 10'400) == 0);
  int64_t tokens = 0;
  for (int64_t step = 1; step <= 19; ++step) {
    CHECK(tokens_before(r, step) == tokens);
    CHECK(steps_left(r, tokens) == 20 - step);
    tokens = recipe_step(r, tokens).tokens_after;
  }
  CHECK(tokens == 10'400);
  // Stages shorter than a step are passed over.
  r.batch = {{0, 50}, {100, 3}, {200, 8}};
  CHECK(recipe_step(r, 5000).batch == 8);
  CHECK(steps_left(r, 0) == 1 + 7);
  // A run that ends within the ramp.
  r = ramped(), r.total = 1100;
  CHECK(steps_left(r, 0) == 6);
}
