// Engine: tokens drawn on the device.
#include <algorithm>
#include <bit>

#include "core/engine.h"
#include "core/error.h"

namespace rwkvnative {
namespace {

void check_draw(const Draw& draw, const std::string& where) {
  const auto in = [](float value, float low, float high) { return value >= low && value <= high; };  // not NaN
  if (!(draw.u >= 0 && draw.u < 1)) throw InputError(message(where, "u: expected 0 <= u < 1, got ", draw.u));
  if (!in(draw.top_p, 0, 1)) throw InputError(message(where, "top_p: expected 0 to 1, got ", draw.top_p));
  if (!in(draw.min_p, 0, 1)) throw InputError(message(where, "min_p: expected 0 to 1, got ", draw.min_p));
  if (!(draw.temperature > 0)) throw InputError(message(where, "temperature: expected more than 0, got ", draw.temperature));
  if (!(draw.repeat > 0)) throw InputError(message(where, "repeat_penalty: expected more than 0, got ", draw.repeat));
}

}  // namespace

bool Engine::can_draw(uint32_t sequences, bool penalties) {
  if (sequences == 0 || rounded_up(sequences) > model_->most_drawn() || sequences > max_batch()) return false;
  const Lock lock(*this);
  try {
    return program(draw_shape(sequences, penalties)).max_in_flight() > 1;  // else the host's drawing keeps nobody waiting
  } catch (const OutOfDeviceMemory&) {
    return false;
  }
}

Shape Engine::draw_shape(uint32_t sequences, bool penalties) const {
  const uint32_t rounded = rounded_up(sequences);
  return {.rows = rounded, .sequences = rounded, .readout = Readout::Draw, .candidates = penalties ? 1u : 0u};
}

void Engine::draw(int32_t token, State& state, std::span<const float> us, const Draw& draw, std::span<const int32_t> bias_ids,
                  std::span<const float> bias_values, const std::function<bool(int32_t)>& on_token) {
  check({&token, 1});
  check_bias({.tokens = {}, .bias_ids = bias_ids, .bias_values = bias_values}, {});
  Draw now = draw;
  for (const float u : us) now.u = u, check_draw(now, {});
  if (us.empty()) return;
  const Lock lock(*this);
  Program& step = program(draw_shape(1, draw.has_penalties()));
  if (step.max_in_flight() == 1) throw InputError("draw: not on this device; see can_draw");
  const auto prepare = [&](std::span<Sequence> sequences, size_t i) {
    now.u = us[i];
    now.place = draw.place + static_cast<uint32_t>(i);
    if (i != 0) now.used = nullptr;
    sequences[0].draw = &now;
    sequences[0].bias_ids = bias_ids;
    sequences[0].bias_values = bias_values;
  };
  feed_back(step, token, state, us.size(), prepare, on_token);
}

void Engine::draw_batch(std::span<const Sequence> sequences, std::span<int32_t> out) {
  check(sequences, true);
  if (out.size() != sequences.size())
    throw InputError(message("tokens: expected room for ", sequences.size(), ", got ", out.size()));
  bool penalties = false;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].draw == nullptr) continue;
    check_draw(*sequences[i].draw, message("sequence ", i, ": "));
    penalties |= sequences[i].draw->has_penalties();
  }
  const Lock lock(*this);
  run(sequences, Readout::Draw, penalties ? 1 : 0, nullptr, [&](const Result& result, Parts parts) {
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i].last) out[parts[i].sequence] = result.tokens[i];
  });
}

void Engine::draw_on(std::span<const Sequence> sequences, std::span<const float> us, const OnTokens& on_tokens) {
  check(sequences, true);
  const size_t B = sequences.size(), n = us.size() / B;
  if (B > max_batch()) throw InputError(message("batch: expected at most ", max_batch(), " sequences, got ", B));
  if (us.size() != n * B) throw InputError(message("u: expected some for each of ", B, " sequences, got ", us.size()));
  std::vector<Sequence> work(sequences.begin(), sequences.end());
  std::vector<Draw> draws;
  bool penalties = false;
  for (size_t i = 0; i < B; ++i) {
    const std::string where = message("sequence ", i, ": ");
    if (work[i].draw == nullptr || work[i].tokens.size() != 1)
      throw InputError(message(where, "expected one token and how to draw the next"));
    draws.push_back(*work[i].draw);
    for (size_t t = 0; t < n; ++t) draws.back().u = us[t * B + i], check_draw(draws.back(), where);
    penalties |= draws.back().has_penalties();
  }
  const Lock lock(*this);
  const auto prepare = [&](std::span<Sequence> steps, size_t t) {
    for (size_t i = 0; i < B; ++i) {
      draws[i].u = us[t * B + i];
      draws[i].place = sequences[i].draw->place + static_cast<uint32_t>(t);
      if (t != 0) draws[i].used = nullptr;
      steps[i].draw = &draws[i];
    }
  };
  feed_back(program(draw_shape(static_cast<uint32_t>(B), penalties)), work, n, prepare, on_tokens);
}

}  // namespace rwkvnative
