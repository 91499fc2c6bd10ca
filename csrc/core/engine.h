// A model ready to run: it cuts work of any length into what the device takes at once, keeps the Programs, and lets one
// caller in at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/backend.h"

namespace rwkvnative {

class Engine {
 public:
  // The bytes that the plan's tensors point to must outlive the Engine.
  Engine(Plan plan, std::unique_ptr<Backend> backend, const LoadOptions& options);

  const Plan& plan() const { return plan_; }
  const DeviceInfo& device() const { return backend_->info(); }
  uint64_t device_bytes() const { return model_->device_bytes(); }
  uint32_t prefill_rows() const { return model_->prefill_rows(); }
  std::unique_ptr<State> create_state();

  // Between two chunks of a long run of tokens `interrupted` is asked whether to stop: true throws Interrupted, the state
  // being that after `done` tokens.
  struct Interrupted {
    size_t done;
  };
  std::function<bool()> interrupted;

  // All of these run tokens after state_in (null: a fresh state) and leave the state after them in state_out, which may be
  // state_in. tokens must not be empty.
  //
  // out: n_vocab logits after the last token, n_vocab for each token, or nothing.
  void forward(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out);
  // out: n_embd values, the normalized hidden state after the last token.
  void hidden(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out);
  // The ids.size() best tokens, best first, with the bias added; returns the log of the sum over the whole vocabulary.
  float candidates(std::span<const int32_t> tokens, const State* state_in, State& state_out,
                   std::span<const int32_t> bias_ids, std::span<const float> bias_values, std::span<int32_t> ids,
                   std::span<float> logits);

  // Greedy decoding: feeds `token`, then the best next token, and so on, at most n times; on_token sees each new token and
  // ends the run by returning false. The state then has seen `token` and every new token but the last one.
  void greedy(int32_t token, State& state, size_t n, const std::function<bool(int32_t)>& on_token);

 private:
  using Lock = std::unique_lock<std::mutex>;
  Program& program(const Shape& shape);
  // Runs all tokens but the last chunk and returns that. state_in becomes what the next submit must read.
  std::span<const int32_t> prefill(std::span<const int32_t> tokens, const State*& state_in, State& state_out);
  Result finish(std::span<const int32_t> tokens, const State* state_in, State& state_out, Shape shape,
                std::span<const int32_t> bias_ids = {}, std::span<const float> bias_values = {});
  void check(std::span<const int32_t> tokens) const;

  Plan plan_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<LoadedModel> model_;
  std::map<Shape, std::unique_ptr<Program>> programs_;
  std::vector<std::unique_ptr<State>> ring_;  // of greedy()
  std::mutex mutex_;
};

}  // namespace rwkvnative
