// A model ready to run: it cuts work of any length into what the device takes at once, keeps the Programs, and lets one
// caller in at a time.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/backend.h"
#include "core/batch.h"
#include "core/process.h"

namespace rwkvnative {

class Engine {
 public:
  // The bytes that the plan's tensors point to must outlive the Engine.
  Engine(Plan plan, std::unique_ptr<Backend> backend, const LoadOptions& options);

  const Plan& plan() const { return plan_; }
  const DeviceInfo& device() const { return backend_->info(); }
  uint64_t device_bytes() const { return model_->device_bytes(); }
  MemoryUse memory() const { return model_->memory(); }
  uint32_t prefill_rows() const { return model_->prefill_rows(); }
  std::unique_ptr<State> create_state();
  Ceilings measure_ceilings();
  // See Backend, and LoadedModel::use_tuning(). Programs compiled before are dropped.
  void set_tuning(const std::string& text);
  std::vector<std::string> tuning_variants() const { return backend_->tuning_variants(); }
  std::vector<uint32_t> prefill_choices() const { return model_->prefill_choices(); }
  std::string kernels_id() const { return backend_->kernels_id(); }
  // Times a step of `rows` tokens, the same number for each sequence, after running it for warm_seconds. rows == sequences:
  // greedy decoding; else a chunk of a prompt and its last logits.
  StepProfile profile(uint32_t rows, uint32_t sequences, uint32_t repeats, double warm_seconds);

  // Between two submits of a long run of tokens `interrupted` is asked whether to stop: true throws Interrupted, `done` tokens
  // having been read. Each state_out is then that after some of its sequence's tokens, or as it was.
  struct Interrupted {
    size_t done;
  };
  std::function<bool()> interrupted;

  // Called after each submit with the tokens read and to read. It may throw, which ends the run as an interruption does.
  using Progress = std::function<void(size_t done, size_t total)>;

  // All of these run tokens after state_in (null: a fresh state) and leave the state after them in state_out, which may be
  // state_in. tokens must not be empty.
  //
  // out: n_vocab logits after the last token, n_vocab for each token, or nothing.
  void forward(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out,
               const Progress& progress = nullptr);
  // out: n_embd values, the normalized hidden state after the last token.
  void hidden(std::span<const int32_t> tokens, const State* state_in, State& state_out, std::span<float> out);
  // The ids.size() best tokens, best first, with the bias added; returns the log of the sum over the whole vocabulary.
  float candidates(std::span<const int32_t> tokens, const State* state_in, State& state_out,
                   std::span<const int32_t> bias_ids, std::span<const float> bias_values, std::span<int32_t> ids,
                   std::span<float> logits);

  // The same for several sequences at once, each of any length and with states of its own. A state that one of them writes
  // must be of no other, neither read nor written; what all of them only read may be one state.
  //
  // out: [sequences][n_vocab] logits after the last token of each, or nothing.
  void forward_batch(std::span<const Sequence> sequences, std::span<float> out, const Progress& progress = nullptr);
  // ids, logits: [sequences][k]; log_sum_exps: [sequences]. Takes each sequence's bias.
  void candidates_batch(std::span<const Sequence> sequences, uint32_t k, std::span<int32_t> ids, std::span<float> logits,
                        std::span<float> log_sum_exps);

  // Greedy decoding: feeds `token`, then the best next token, and so on, at most n times; on_token sees each new token and
  // ends the run by returning false. The state then has seen `token` and every new token but the last one. Ends before a token that
  // there is not, for logits that are not finite: then the state may have seen the last one too.
  void greedy(int32_t token, State& state, size_t n, const std::function<bool(int32_t)>& on_token);

  // The same for several sequences, at most max_batch() of them: on_tokens sees each step's tokens, one for each sequence, while the
  // device is at the steps that follow. When it returns false no more are begun, and it sees those that were already. Each state
  // has then seen its token and every new one but the last. A single sequence does not end early: that is the caller's matter.
  using OnTokens = std::function<bool(std::span<const int32_t>)>;
  void greedy_batch(std::span<const int32_t> tokens, std::span<State* const> states, size_t n, const OnTokens& on_tokens);

  // Drawing on the device, where LoadedModel::most_drawn() and the memory allow it: whether a step of that many sequences can, some of
  // them with penalties or none. A token that it cannot give, for logits that are not finite or all banned, is -1.
  bool can_draw(uint32_t sequences, bool penalties);
  // As greedy(), each token drawn as `draw` says with the next of the numbers `us`: at most us.size() tokens. Ends before a
  // token that there is none of, the state being that before the token in vain.
  void draw(int32_t token, State& state, std::span<const float> us, const Draw& draw, std::span<const int32_t> bias_ids,
            std::span<const float> bias_values, const std::function<bool(int32_t)>& on_token);
  // As candidates_batch(), with a token for each sequence, as its `draw` says.
  void draw_batch(std::span<const Sequence> sequences, std::span<int32_t> out);
  // As greedy_batch(), for sequences of a token each, whose state_in is state_out; us is [n][sequences.size()]. Past a -1 a
  // sequence's tokens and state mean nothing.
  void draw_on(std::span<const Sequence> sequences, std::span<const float> us, const OnTokens& on_tokens);

  // Sequences that one submit takes at most.
  uint32_t max_batch() const { return model_->logits_rows(); }
  // Of so many sequences, at most max_batch(), the number that a Program is compiled for.
  uint32_t rounded_up(size_t sequences) const;
  // Memory of the Programs made so far, beside device_bytes(). At most kMostPrograms are kept, and kMostScratchBytes.
  uint64_t scratch_bytes() const { return scratch_bytes_ + model_->scratch_bytes(); }
  uint32_t n_programs() const { return n_programs_; }

  // After a fork() the child must not use it, nor destroy it: the device's threads are the parent's. Everything here throws
  // DeviceError then.
  bool is_forked() const { return forks() != forks_; }
  void check_process() const;

  // Throws FileError if the file that the model was loaded from is not what it was, whether or not the model still reads it.
  void check_whole_file() const {
    if (file_) file_->check();
  }

 private:
  // One caller at a time. Throws InputError where a callback of a call asks for another one, which would wait for itself.
  class Lock {
   public:
    explicit Lock(Engine& engine);
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    Engine& engine_;
  };
  using Parts = std::span<const BatchQueue::Part>;
  struct CachedProgram {
    std::unique_ptr<Program> program;
    uint64_t last_use = 0;
  };
  // A change of shape compiles a program, and each has memory of its own.
  static constexpr size_t kMostPrograms = 24;
  static constexpr uint64_t kMostScratchBytes = uint64_t{1} << 30;  // or two Programs, if they take more

  // Throws FileError if what the model still reads of its file is not what it was.
  void check_file() const {
    if (file_ && model_->reads_file()) file_->check();
  }
  Program& program(const Shape& shape);
  // The rows of the Program for a call of so many tokens, those of one sequence after another; `most` for more.
  uint32_t rows_for(size_t tokens, uint32_t most) const;
  // What `make` gives; where the device has no room for it, the Programs but `kept` go first.
  template <class Make>
  auto with_room(const Program* kept, Make make);
  // Runs all tokens; sink sees the result of each submit that has one. AllLogits has in all, other readouts where a sequence
  // ends. sink(result, parts): result entry i is of parts[i].
  void run(std::span<const Sequence> sequences, Readout readout, uint32_t k, const Progress& progress,
           const std::function<void(const Result&, Parts)>& sink);
  // What greedy() and draw() have in common: `prepare` says more of the i-th submit.
  using Prepare = std::function<void(std::span<Sequence>, size_t i)>;
  void feed_back(Program& step, int32_t token, State& state, size_t n, const Prepare& prepare,
                 const std::function<bool(int32_t)>& on_token);
  void feed_back(Program& step, std::span<Sequence> sequences, size_t n, const Prepare& prepare, const OnTokens& on_tokens);
  Shape draw_shape(uint32_t sequences, bool penalties) const;
  void choose(std::span<const Sequence> sequences, uint32_t k, std::span<int32_t> ids, std::span<float> logits,
              std::span<float> log_sum_exps);
  void check(std::span<const Sequence> sequences, bool numbered) const;
  void check(std::span<const int32_t> tokens, const std::string& where = {}) const;
  void check_bias(const Sequence& sequence, const std::string& where) const;

  Plan plan_;
  std::shared_ptr<const ModelFile> file_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<LoadedModel> model_;
  std::string unusable_;  // what was wrong with the file when it was read once more
  std::map<Shape, CachedProgram> programs_;
  uint64_t uses_ = 0;
  std::vector<std::unique_ptr<State>> ring_;  // of greedy()
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};  // who holds it
  const uint32_t forks_ = forks();
  std::atomic<uint64_t> scratch_bytes_{0};  // read while somebody else runs
  std::atomic<uint32_t> n_programs_{0};     // likewise
};

}  // namespace rwkvnative
