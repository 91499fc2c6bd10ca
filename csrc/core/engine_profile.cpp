// Engine::profile: one step, again and again, first with clocks around it and then with clocks in it.
#include <algorithm>
#include <chrono>

#include "core/engine.h"
#include "core/error.h"
#include "core/tickets.h"

namespace rwkvnative {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

StepProfile Engine::profile(uint32_t rows, uint32_t sequences, uint32_t repeats, double warm_seconds) {
  if (sequences == 0 || rows == 0 || rows % sequences != 0)
    throw InputError(message("profile: expected as many rows for each sequence, got ", rows, " rows of ", sequences, " sequences"));
  if (repeats == 0) throw InputError("profile: expected at least one repeat, got 0");
  const Lock lock(*this);
  const bool decode = rows == sequences;
  Program& step = program({.rows = rows, .sequences = sequences, .readout = decode ? Readout::Argmax : Readout::LastLogits});
  std::vector<int32_t> tokens(rows);
  for (uint32_t i = 0; i < rows; ++i) tokens[i] = static_cast<int32_t>((1 + uint64_t{i} * 7919) % plan_.n_vocab);
  std::vector<std::unique_ptr<State>> states;
  std::vector<Sequence> work;
  for (uint32_t s = 0; s < sequences; ++s) {
    states.push_back(model_->create_state());
    work.push_back({.tokens = std::span(tokens).subspan(s * (rows / sequences), rows / sequences),
                    .state_in = nullptr,
                    .state_out = states.back().get()});
  }
  const auto go_on = [&] {  // with the state, and in decoding with the token, of the step before
    for (Sequence& sequence : work) {
      sequence.state_in = sequence.state_out;
      if (decode) sequence.tokens = {};
    }
  };
  StepProfile profile;
  profile.rows = rows;
  profile.sequences = sequences;

  // As greedy() does it: tickets in flight, so that the host's part is hidden where it can be.
  Tickets flying(step);
  const auto fly = [&](auto more) {
    double submitting = 0;
    size_t submitted = 0;
    for (size_t done = 0; more(done); ++done) {
      while (flying.size() < std::max(1u, step.max_in_flight())) {
        const Clock::time_point start = Clock::now();
        flying.submit(work);
        submitting += seconds_since(start);
        ++submitted;
        go_on();
      }
      flying.take();
    }
    return submitting / static_cast<double>(std::max<size_t>(1, submitted));
  };
  const Clock::time_point warm_start = Clock::now();
  step.wait(step.submit(work));  // alone: the first submit may wait for things to be set up
  go_on();
  fly([&](size_t done) { return done == 0 || seconds_since(warm_start) < warm_seconds; });
  constexpr double kRunSeconds = 0.06;  // about, of a run with tickets in flight: one more or less then does not count
  std::vector<double> in_flight, submits, alone, uploads;
  std::vector<std::vector<double>> times;
  size_t steps = 1;
  const auto run = [&] {
    fly([](size_t done) { return done < 1; });  // now the tickets are in flight
    Clock::time_point start = Clock::now();
    submits.push_back(fly([&](size_t done) { return done < steps; }));
    in_flight.push_back(seconds_since(start) / static_cast<double>(steps));
    while (flying.size() != 0) flying.take();
    start = Clock::now();
    step.wait(step.submit(work));
    alone.push_back(seconds_since(start));
    OpTimes once = step.profile(work);
    times.resize(once.ops.size());
    for (size_t i = 0; i < once.ops.size(); ++i) times[i].push_back(once.ops[i].microseconds);
    uploads.push_back(once.upload_microseconds);
    profile.times = std::move(once);
  };
  // In turn, so that whatever else the machine does meets all three alike. The first run only finds how long a step takes.
  run();
  steps = static_cast<size_t>(std::clamp(kRunSeconds / in_flight.front(), 1.0, 64.0));
  in_flight.clear(), submits.clear(), alone.clear(), times.clear(), uploads.clear();
  for (uint32_t i = 0; i < repeats; ++i) run();
  profile.step_seconds = median(in_flight);
  profile.submit_seconds = median(submits);
  profile.alone_seconds = median(alone);
  profile.times.upload_microseconds = median(uploads);
  for (size_t i = 0; i < times.size(); ++i) profile.times.ops[i].microseconds = median(times[i]);
  return profile;
}

}  // namespace rwkvnative
