#include "core/engine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/tickets.h"

namespace rwkvnative {

Engine::Engine(Plan plan, std::unique_ptr<Backend> backend, const LoadOptions& options)
    : plan_(std::move(plan)), file_(options.file), backend_(std::move(backend)), model_(backend_->load(plan_, options)) {
  if (file_) file_->check();  // what load() read
}

Engine::Lock::Lock(Engine& engine) : engine_(engine) {
  engine.check_process();
  const std::thread::id self = std::this_thread::get_id();
  if (engine.owner_ == self) throw InputError("[model] a callback asked for another run of the model that it is called from");
  engine.mutex_.lock();
  engine.owner_ = self;
}

Engine::Lock::~Lock() {
  engine_.owner_ = std::thread::id();
  engine_.mutex_.unlock();
}

void Engine::check_process() const {
  if (is_forked())
    throw DeviceError(message("[model] it was loaded before this process was forked, and only the parent can use it: load it in the ",
                              "child, or start that with multiprocessing's \"spawn\""));
}

template <class Make>
auto Engine::with_room(const Program* kept, Make make) {
  try {
    return make();
  } catch (const OutOfDeviceMemory&) {
    if (std::erase_if(programs_, [&](const auto& entry) { return entry.second.program.get() != kept; }) == 0) throw;
  }
  return make();
}

std::unique_ptr<State> Engine::create_state() {
  const Lock lock(*this);
  return with_room(nullptr, [&] { return model_->create_state(); });
}

Ceilings Engine::measure_ceilings() {
  const Lock lock(*this);
  return backend_->measure_ceilings();
}

void Engine::set_tuning(const std::string& text) {
  const Lock lock(*this);
  backend_->set_tuning(text);
  programs_.clear();
  scratch_bytes_ = 0;
  n_programs_ = 0;
  if (model_->wants_reload()) {
    if (file_) file_->check();
    model_->reload();
    try {
      if (file_) file_->check();
    } catch (const FileError& error) {
      unusable_ = error.what();
      throw;
    }
  }
  model_->use_tuning();
}

uint32_t Engine::rounded_up(size_t sequences) const {
  return std::min(std::bit_ceil(static_cast<uint32_t>(sequences)), max_batch());
}

uint32_t Engine::rows_for(size_t tokens, uint32_t most) const {
  for (const uint32_t rows : model_->short_rows())
    if (tokens <= rows && rows < most) return rows;
  return most;
}

Program& Engine::program(const Shape& shape) {
  if (!unusable_.empty()) throw FileError(unusable_);
  CachedProgram& cached = programs_[shape];
  cached.last_use = ++uses_;
  if (!cached.program) {
    try {
      cached.program = with_room(nullptr, [&] { return model_->compile(shape); });
    } catch (...) {
      programs_.erase(shape);
      throw;
    }
  }
  if (programs_.size() > 1 && model_->short_of_room())
    std::erase_if(programs_, [&](const auto& entry) { return entry.second.program != cached.program; });
  const auto bytes = [&] {
    uint64_t sum = 0;
    for (const auto& [other, kept] : programs_) sum += kept.program->scratch_bytes();
    return sum;
  };
  const auto older = [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; };
  while (programs_.size() > kMostPrograms || (programs_.size() > 2 && bytes() > kMostScratchBytes))
    programs_.erase(std::min_element(programs_.begin(), programs_.end(), older));
  scratch_bytes_ = bytes();
  n_programs_ = static_cast<uint32_t>(programs_.size());
  return *cached.program;
}

// ---- checks ------------------------------------------------------------------------------------------------------------

void Engine::check(std::span<const int32_t> tokens, const std::string& where) const {
  if (tokens.empty()) throw InputError(message(where, "tokens: expected at least one, got none"));
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<uint32_t>(tokens[i]) >= plan_.n_vocab)
      throw InputError(message(where, "tokens[", i, "]: expected an id from 0 to ", plan_.n_vocab - 1, ", got ", tokens[i]));
}

void Engine::check_bias(const Sequence& sequence, const std::string& where) const {
  if (sequence.bias_ids.size() != sequence.bias_values.size())
    throw InputError(message(where, "bias: expected as many values as ids, got ", sequence.bias_values.size(), " and ",
                             sequence.bias_ids.size()));
  for (int32_t id : sequence.bias_ids)
    if (id < 0 || static_cast<uint32_t>(id) >= plan_.n_vocab)
      throw InputError(message(where, "bias: expected token ids from 0 to ", plan_.n_vocab - 1, ", got ", id));
  for (float value : sequence.bias_values)
    if (std::isnan(value)) throw InputError(message(where, "bias: expected numbers, got NaN"));
}

void Engine::check(std::span<const Sequence> sequences, bool numbered) const {
  if (sequences.empty()) throw InputError("batch: expected at least one sequence, got none");
  std::map<const State*, size_t> writers;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::string where = numbered ? message("sequence ", i, ": ") : std::string();
    check(sequences[i].tokens, where);
    check_bias(sequences[i], where);
    if (sequences[i].state_out == nullptr) throw InputError(message(where, "state_out: expected a state, got none"));
    const auto [writer, is_new] = writers.emplace(sequences[i].state_out, i);
    if (!is_new) throw InputError(message(where, "state_out: sequence ", writer->second, " writes the same state"));
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto writer = writers.find(sequences[i].state_in);
    if (writer != writers.end() && writer->second != i)
      throw InputError(message("sequence ", i, ": state_in: sequence ", writer->second, " writes this state"));
  }
}

// ---- running -----------------------------------------------------------------------------------------------------------

void Engine::run(std::span<const Sequence> sequences, Readout readout, uint32_t k, const Progress& progress,
                 const std::function<void(const Result&, Parts)>& sink) {
  std::vector<size_t> lengths;
  bool prompts = false;
  for (const Sequence& sequence : sequences) {
    lengths.push_back(sequence.tokens.size());
    prompts |= sequence.tokens.size() > 1;
  }
  // A chunk may be shorter than a crowd of single tokens is large.
  const uint32_t most = readout == Readout::AllLogits ? model_->logits_rows()
                        : prompts                     ? model_->prefill_rows()
                                                      : std::max(model_->prefill_rows(), max_batch());
  // By the whole call, not by each submit: the end of a long prompt is no reason to compile another Program.
  const uint32_t rows = rows_for(std::accumulate(lengths.begin(), lengths.end(), size_t{0}), most);
  BatchQueue queue(std::move(lengths), rows, max_batch());
  std::vector<Sequence> submit;
  for (bool first = true;; first = false) {
    const size_t done = queue.done();
    const Parts parts = queue.next();
    if (parts.empty()) return;
    if (!first && interrupted && interrupted()) throw Interrupted{done};

    submit.clear();
    bool one_token_each = true, any_ends = false;
    for (const BatchQueue::Part& part : parts) {
      Sequence sequence = sequences[part.sequence];
      sequence.tokens = sequence.tokens.subspan(part.begin, part.rows);
      if (part.begin != 0) sequence.state_in = sequence.state_out;
      if (!part.last) sequence.draw = nullptr;
      submit.push_back(sequence);
      one_token_each &= part.rows == 1;
      any_ends |= part.last;
    }
    // Few shapes, so that a crowd that comes and goes does not compile for each of its sizes.
    const bool reads = readout == Readout::AllLogits || (any_ends && readout != Readout::None);
    const uint32_t n_sequences = rounded_up(parts.size());
    Program& ready = program({.rows = one_token_each ? n_sequences : rows,
                              .sequences = n_sequences,
                              .readout = reads ? readout : Readout::None,
                              .candidates = reads ? k : 0});
    check_file();
    const Result result = ready.wait(with_room(&ready, [&] { return ready.submit(submit); }));
    check_file();
    if (reads) sink(result, parts);
    if (progress) progress(queue.done(), queue.total());
  }
}

void Engine::forward(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out,
                     const Progress& progress) {
  const Sequence sequence{.tokens = tokens, .state_in = state_in, .state_out = &state_out};
  check({&sequence, 1}, false);
  const size_t V = plan_.n_vocab;
  if (!out.empty() && out.size() != V && out.size() != tokens.size() * V)
    throw InputError(message("logits: expected room for ", V, " or ", tokens.size() * V, " values, got ", out.size()));
  const Readout readout = out.empty() ? Readout::None : out.size() == V ? Readout::LastLogits : Readout::AllLogits;
  const Lock lock(*this);
  run({&sequence, 1}, readout, 0, progress, [&](const Result& result, Parts parts) {
    const size_t at = readout == Readout::AllLogits ? parts[0].begin * V : 0;
    std::copy(result.values.begin(), result.values.end(), out.begin() + static_cast<ptrdiff_t>(at));
  });
}

void Engine::forward_batch(std::span<const Sequence> sequences, std::span<float> out, const Progress& progress) {
  check(sequences, true);
  const size_t V = plan_.n_vocab;
  if (!out.empty() && out.size() != sequences.size() * V)
    throw InputError(message("logits: expected room for ", sequences.size() * V, " values, got ", out.size()));
  const Lock lock(*this);
  run(sequences, out.empty() ? Readout::None : Readout::LastLogits, 0, progress, [&](const Result& result, Parts parts) {
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i].last) std::copy_n(result.values.data() + i * V, V, out.data() + parts[i].sequence * V);
  });
}

void Engine::hidden(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out) {
  const Sequence sequence{.tokens = tokens, .state_in = state_in, .state_out = &state_out};
  check({&sequence, 1}, false);
  if (out.size() != plan_.n_embd)
    throw InputError(message("hidden: expected room for ", plan_.n_embd, " values, got ", out.size()));
  const Lock lock(*this);
  run({&sequence, 1}, Readout::Hidden, 0, nullptr,
      [&](const Result& result, Parts) { std::copy_n(result.values.begin(), out.size(), out.begin()); });
}

float Engine::candidates(std::span<const int32_t> tokens, const State* state_in, State& state_out,
                         std::span<const int32_t> bias_ids, std::span<const float> bias_values, std::span<int32_t> ids,
                         std::span<float> logits) {
  const Sequence sequence{.tokens = tokens,
                          .state_in = state_in,
                          .state_out = &state_out,
                          .bias_ids = bias_ids,
                          .bias_values = bias_values};
  check({&sequence, 1}, false);
  float log_sum_exp = 0;
  choose({&sequence, 1}, static_cast<uint32_t>(ids.size()), ids, logits, {&log_sum_exp, 1});
  return log_sum_exp;
}

void Engine::candidates_batch(std::span<const Sequence> sequences, uint32_t k, std::span<int32_t> ids, std::span<float> logits,
                              std::span<float> log_sum_exps) {
  check(sequences, true);
  choose(sequences, k, ids, logits, log_sum_exps);
}

void Engine::choose(std::span<const Sequence> sequences, uint32_t k, std::span<int32_t> ids, std::span<float> logits,
                    std::span<float> log_sum_exps) {
  if (k == 0 || k > plan_.n_vocab) throw InputError(message("k: expected 1 to ", plan_.n_vocab, ", got ", k));
  const size_t wanted = sequences.size() * k;
  if (ids.size() != wanted || logits.size() != wanted || log_sum_exps.size() != sequences.size())
    throw InputError(message("candidates: expected room for ", wanted, " entries, got ", ids.size()));
  const Lock lock(*this);
  run(sequences, Readout::Candidates, k, nullptr, [&](const Result& result, Parts parts) {
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!parts[i].last) continue;
      const CandidateList& list = result.candidates.at(i);
      const size_t s = parts[i].sequence;
      std::copy_n(list.ids.begin(), k, ids.begin() + static_cast<ptrdiff_t>(s * k));
      std::copy_n(list.logits.begin(), k, logits.begin() + static_cast<ptrdiff_t>(s * k));
      log_sum_exps[s] = list.log_sum_exp;
    }
  });
}

void Engine::greedy(int32_t token, State& state, size_t n, const std::function<bool(int32_t)>& on_token) {
  check({&token, 1});
  const Lock lock(*this);
  feed_back(program({.rows = 1, .sequences = 1, .readout = Readout::Argmax, .candidates = 0}), token, state, n,
            [](std::span<Sequence>, size_t) {}, on_token);
}

// The device feeds itself; tickets are kept in flight. When the caller ends the run early, tokens past the end are
// already under way: each step writes a state of its own, and the one that the caller has seen is taken.
void Engine::feed_back(Program& step, int32_t token, State& state, size_t n, const Prepare& prepare,
                       const std::function<bool(int32_t)>& on_token) {
  const size_t ahead = std::max(1u, step.max_in_flight());
  if (ahead == 1) {
    Sequence sequence{.tokens = {&token, 1}, .state_in = &state, .state_out = &state};
    for (size_t i = 0; i < n; ++i) {
      check_file();
      prepare({&sequence, 1}, i);
      const int32_t next = step.wait(with_room(&step, [&] { return step.submit({&sequence, 1}); })).tokens[0];
      check_file();
      sequence.tokens = {};
      if (next < 0 || !on_token(next)) return;
    }
    return;
  }

  while (ring_.size() < ahead) ring_.push_back(with_room(&step, [&] { return model_->create_state(); }));
  Tickets flying(step);
  size_t submitted = 0, seen = 0;
  const auto after = [&](size_t steps) { return steps == 0 ? &state : ring_[(steps - 1) % ring_.size()].get(); };
  const auto finish = [&] {
    if (seen != 0) with_room(&step, [&] { state.assign(*after(seen)); });
  };
  try {
    for (bool going = true; going && seen < n;) {
      while (submitted < n && flying.size() < ahead) {
        Sequence sequence{.tokens = submitted == 0 ? std::span<const int32_t>(&token, 1) : std::span<const int32_t>(),
                          .state_in = after(submitted),
                          .state_out = after(submitted + 1)};
        check_file();
        prepare({&sequence, 1}, submitted);
        with_room(&step, [&] { flying.submit({&sequence, 1}); });
        ++submitted;
      }
      const int32_t next = flying.take().tokens[0];
      check_file();
      if (next < 0) break;
      ++seen;
      going = on_token(next);
    }
  } catch (...) {
    flying.abandon();
    finish();
    throw;
  }
  while (flying.size() != 0) flying.take();
  finish();
}

void Engine::greedy_batch(std::span<const int32_t> tokens, std::span<State* const> states, size_t n, const OnTokens& on_tokens) {
  if (tokens.size() != states.size() || tokens.size() > max_batch())
    throw InputError(message("batch: expected as many states as tokens and at most ", max_batch(), ", got ", states.size(),
                             " and ", tokens.size()));
  std::vector<Sequence> sequences;
  for (size_t i = 0; i < tokens.size(); ++i)
    sequences.push_back({.tokens = tokens.subspan(i, 1), .state_in = states[i], .state_out = states[i]});
  check(sequences, true);
  const Lock lock(*this);
  const uint32_t rounded = rounded_up(tokens.size());
  feed_back(program({.rows = rounded, .sequences = rounded, .readout = Readout::Argmax, .candidates = 0}), sequences, n,
            [](std::span<Sequence>, size_t) {}, on_tokens);
}

// In place and in order: the device feeds itself, and tickets are kept in flight.
void Engine::feed_back(Program& step, std::span<Sequence> sequences, size_t n, const Prepare& prepare, const OnTokens& on_tokens) {
  Tickets flying(step);
  size_t submitted = 0;
  for (bool going = true;;) {
    while (going && submitted < n && flying.size() < std::max(1u, step.max_in_flight())) {
      check_file();
      prepare(sequences, submitted);
      with_room(&step, [&] { flying.submit(sequences); });
      ++submitted;
      for (Sequence& sequence : sequences) sequence.tokens = {};
    }
    if (flying.size() == 0) return;
    const Result found = flying.take();
    check_file();
    going &= on_tokens(std::span(found.tokens).first(sequences.size()));
  }
}

}  // namespace rwkvnative
