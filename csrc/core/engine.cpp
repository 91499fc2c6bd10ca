#include "core/engine.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "core/error.h"

namespace rwkvnative {

Engine::Engine(Plan plan, std::unique_ptr<Backend> backend, const LoadOptions& options)
    : plan_(std::move(plan)), backend_(std::move(backend)), model_(backend_->load(plan_, options)) {}

std::unique_ptr<State> Engine::create_state() {
  const Lock lock(mutex_);
  return model_->create_state();
}

Program& Engine::program(const Shape& shape) {
  std::unique_ptr<Program>& program = programs_[shape];
  if (!program) program = model_->compile(shape);
  return *program;
}

void Engine::check(std::span<const int32_t> tokens) const {
  if (tokens.empty()) throw InputError("tokens: expected at least one, got none");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= plan_.n_vocab)
      throw InputError(message("tokens[", i, "]: expected an id from 0 to ", plan_.n_vocab - 1, ", got ", tokens[i]));
}

std::span<const int32_t> Engine::prefill(std::span<const int32_t> tokens, const State*& state_in, State& state_out) {
  const size_t chunk = model_->prefill_rows();
  size_t done = 0;
  for (; tokens.size() - done > chunk; done += chunk) {
    if (done != 0 && interrupted && interrupted()) throw Interrupted{done};
    finish(tokens.subspan(done, chunk), state_in, state_out, {.readout = Readout::None});
    state_in = &state_out;
  }
  return tokens.subspan(done);
}

Result Engine::finish(std::span<const int32_t> tokens, const State* state_in, State& state_out, Shape shape,
                      std::span<const int32_t> bias_ids, std::span<const float> bias_values) {
  shape.rows = tokens.size() == 1 ? 1 : model_->prefill_rows();
  shape.sequences = 1;
  Program& ready = program(shape);
  const Sequence sequence{.tokens = tokens,
                          .state_in = state_in,
                          .state_out = &state_out,
                          .bias_ids = bias_ids,
                          .bias_values = bias_values};
  return ready.wait(ready.submit({&sequence, 1}));
}

void Engine::forward(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out) {
  check(tokens);
  const Lock lock(mutex_);
  const size_t V = plan_.n_vocab;
  if (out.size() == tokens.size() * V && tokens.size() != 1) {
    const size_t chunk = model_->prefill_rows();
    for (size_t done = 0; done < tokens.size(); done += chunk) {
      if (done != 0 && interrupted && interrupted()) throw Interrupted{done};
      const auto part = tokens.subspan(done, std::min(chunk, tokens.size() - done));
      const Result result = finish(part, done ? &state_out : state_in, state_out, {.readout = Readout::AllLogits});
      std::copy(result.values.begin(), result.values.end(), out.begin() + static_cast<ptrdiff_t>(done * V));
    }
    return;
  }
  const auto rest = prefill(tokens, state_in, state_out);
  const Readout readout = out.empty() ? Readout::None : Readout::LastLogits;
  const Result result = finish(rest, state_in, state_out, {.readout = readout});
  if (out.empty()) return;
  if (out.size() != V) throw InputError(message("logits: expected room for ", V, " values, got ", out.size()));
  std::copy(result.values.begin(), result.values.end(), out.begin());
}

void Engine::hidden(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out) {
  check(tokens);
  const Lock lock(mutex_);
  const auto rest = prefill(tokens, state_in, state_out);
  const Result result = finish(rest, state_in, state_out, {.readout = Readout::Hidden});
  std::copy_n(result.values.begin(), std::min(out.size(), result.values.size()), out.begin());
}

float Engine::candidates(std::span<const int32_t> tokens, const State* state_in, State& state_out,
                         std::span<const int32_t> bias_ids, std::span<const float> bias_values, std::span<int32_t> ids,
                         std::span<float> logits) {
  check(tokens);
  if (ids.empty() || ids.size() > plan_.n_vocab)
    throw InputError(message("k: expected 1 to ", plan_.n_vocab, ", got ", ids.size()));
  if (bias_ids.size() != bias_values.size())
    throw InputError(message("bias: expected as many values as ids, got ", bias_values.size(), " and ", bias_ids.size()));
  for (int32_t id : bias_ids)
    if (id < 0 || static_cast<uint32_t>(id) >= plan_.n_vocab)
      throw InputError(message("bias: expected token ids from 0 to ", plan_.n_vocab - 1, ", got ", id));
  for (float value : bias_values)
    if (std::isnan(value)) throw InputError("bias: expected numbers, got NaN");
  const Lock lock(mutex_);
  const auto rest = prefill(tokens, state_in, state_out);
  const Result result =
      finish(rest, state_in, state_out,
             {.readout = Readout::Candidates, .candidates = static_cast<uint32_t>(ids.size())}, bias_ids, bias_values);
  const CandidateList& list = result.candidates.at(0);
  std::copy(list.ids.begin(), list.ids.end(), ids.begin());
  std::copy(list.logits.begin(), list.logits.end(), logits.begin());
  return list.log_sum_exp;
}

void Engine::greedy(int32_t token, State& state, size_t n, const std::function<bool(int32_t)>& on_token) {
  check({&token, 1});
  if (n == 0) return;
  const Lock lock(mutex_);
  Program& step = program({.rows = 1, .sequences = 1, .readout = Readout::Argmax, .candidates = 0});

  // The device feeds itself; tickets are kept in flight. When the caller ends the run early, tokens past the end are
  // already under way: each step writes a state of its own, and the one that the caller has seen is taken.
  const size_t ahead = std::max(1u, step.max_in_flight());
  if (ahead == 1) {
    Sequence sequence{.tokens = {&token, 1}, .state_in = &state, .state_out = &state};
    for (size_t i = 0; i < n; ++i) {
      const int32_t next = step.wait(step.submit({&sequence, 1})).tokens[0];
      sequence.tokens = {};
      if (!on_token(next)) return;
    }
    return;
  }

  while (ring_.size() < ahead) ring_.push_back(model_->create_state());
  std::deque<Ticket> flying;
  size_t submitted = 0, seen = 0;
  const auto after = [&](size_t steps) { return steps == 0 ? &state : ring_[(steps - 1) % ring_.size()].get(); };
  const auto drain = [&] {
    for (; !flying.empty(); flying.pop_front()) step.wait(flying.front());
    if (seen != 0) state.assign(*after(seen));
  };
  try {
    for (bool going = true; going && seen < n;) {
      while (submitted < n && flying.size() < ahead) {
        const Sequence sequence{.tokens = submitted == 0 ? std::span<const int32_t>(&token, 1) : std::span<const int32_t>(),
                                .state_in = after(submitted),
                                .state_out = after(submitted + 1)};
        flying.push_back(step.submit({&sequence, 1}));
        ++submitted;
      }
      const int32_t next = step.wait(flying.front()).tokens[0];
      flying.pop_front();
      ++seen;
      going = on_token(next);
    }
  } catch (...) {
    drain();
    throw;
  }
  drain();
}

}  // namespace rwkvnative
