// Engine, State and devices.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "backends.h"
#include "core/architecture.h"
#include "core/engine.h"
#include "core/error.h"
#include "cpu/cpu.h"
#include "released.h"
#include "tensor_tuples.h"

namespace py = pybind11;
using namespace rwkvnative;

namespace {

using Tokens = py::array_t<int32_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::span<const int32_t> view(const Tokens& tokens) {
  if (tokens.ndim() != 1) throw InputError(message("tokens: expected one dimension, got ", tokens.ndim()));
  return {tokens.data(), static_cast<size_t>(tokens.size())};
}

const char* kind_name(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::Cpu: return "cpu";
    case DeviceKind::DiscreteGpu: return "discrete-gpu";
    case DeviceKind::IntegratedGpu: return "integrated-gpu";
    case DeviceKind::Software: return "software";
  }
  return "unknown";
}

const char* arithmetic_name(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::F32: return "f32";
    case Arithmetic::F16: return "f16";
    case Arithmetic::Int8: return "int8";
  }
  return "unknown";
}

py::dict describe(const DeviceInfo& info) {
  py::dict d;
  d["device"] = info.id;
  d["name"] = info.name;
  d["backend"] = info.backend;
  d["kind"] = kind_name(info.kind);
  d["memory_bytes"] = info.memory_bytes;
  d["features"] = info.features;
  return d;
}

Numerics parse_numerics(const std::string& name) {
  if (name == "auto") return Numerics::Auto;
  if (name == "f32") return Numerics::F32;
  if (name == "int8") return Numerics::Int8;
  throw InputError(message("numerics: expected \"auto\", \"f32\" or \"int8\", got \"", name, "\""));
}

class PyState {
 public:
  PyState(std::shared_ptr<Engine> engine, std::unique_ptr<State> state) : engine_(std::move(engine)), state_(std::move(state)) {}
  PyState(PyState&&) = default;
  ~PyState() {
    if (!state_) return;
    if (engine_->is_forked()) {
      static_cast<void>(state_.release());  // see Engine::is_forked()
      return;
    }
    const Released release;  // another thread may be in the middle of a submit
    state_ = nullptr;
  }

  State& get() { return *state_; }
  bool belongs_to(const std::shared_ptr<Engine>& engine) const { return engine_ == engine; }
  PyState copy() const {
    engine_->check_process();
    const Released release;
    return {engine_, state_->clone()};
  }
  size_t n_bytes() const { return engine_->plan().state_values() * sizeof(float); }

  // name -> float32 [n_layer, ...]
  py::dict read() const {
    const Plan& plan = engine_->plan();
    std::vector<float> values(plan.state_values());
    engine_->check_process();
    {
      const Released release;
      state_->read(values);
    }
    py::dict parts;
    for (uint32_t i = 0; i < plan.state_parts.size(); ++i) {
      const StatePart& part = plan.state_parts[i];
      py::array_t<float> array(shape_of(part));
      for (uint32_t layer = 0; layer < plan.n_layer; ++layer)
        std::memcpy(array.mutable_data() + layer * part.values(), values.data() + offset(layer, i), part.values() * sizeof(float));
      parts[py::str(part.name)] = array;
    }
    return parts;
  }

  void write(const py::dict& parts) {
    const Plan& plan = engine_->plan();
    std::vector<float> values(plan.state_values());
    for (const auto& [key, array] : parts) {
      const auto name = key.cast<std::string>();
      const auto same = [&](const StatePart& part) { return part.name == name; };
      if (std::none_of(plan.state_parts.begin(), plan.state_parts.end(), same))
        throw InputError(message("state: this model has no part ", name));
    }
    for (uint32_t i = 0; i < plan.state_parts.size(); ++i) {
      const StatePart& part = plan.state_parts[i];
      if (!parts.contains(part.name)) throw InputError(message("state: ", part.name, " is missing"));
      const auto array = Floats::ensure(parts[py::str(part.name)]);
      if (!array) {
        PyErr_Clear();
        throw InputError(message("state: ", part.name, " is not an array of numbers"));
      }
      const std::vector<py::ssize_t> expected = shape_of(part);
      if (!std::equal(expected.begin(), expected.end(), array.shape(), array.shape() + array.ndim()))
        throw InputError(message("state: ", part.name, ": expected shape ", text(expected), ", got ",
                                 text({array.shape(), array.shape() + array.ndim()})));
      for (uint32_t layer = 0; layer < plan.n_layer; ++layer)
        std::memcpy(values.data() + offset(layer, i), array.data() + layer * part.values(), part.values() * sizeof(float));
    }
    engine_->check_process();
    const Released release;
    state_->write(values);
  }

 private:
  std::vector<py::ssize_t> shape_of(const StatePart& part) const {
    std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(engine_->plan().n_layer)};
    shape.insert(shape.end(), part.shape.begin(), part.shape.end());
    return shape;
  }
  static std::string text(const std::vector<py::ssize_t>& shape) {
    std::string out = "(";
    for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + ")";
  }
  size_t offset(uint32_t layer, uint32_t part) const {
    return layer * engine_->plan().state_values_per_layer() + engine_->plan().state_part_offset(part);
  }
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<State> state_;
};

// A Draw and the used tokens that it points to.
class PyDraw {
 public:
  PyDraw(uint32_t top_k, double top_p, double min_p, double temperature, bool bans, double presence, double frequency, double decay,
         double repeat, uint32_t repeat_last_n) {
    draw_ = {.u = 0,
             .top_k = top_k,
             .top_p = static_cast<float>(top_p),
             .min_p = static_cast<float>(min_p),
             .temperature = positive(temperature),
             .bans = bans,
             .presence = static_cast<float>(presence),
             .frequency = static_cast<float>(frequency),
             .decay = static_cast<float>(decay),
             .repeat = positive(repeat),
             .repeat_last_n = repeat_last_n,
             .place = 1,
             .used = nullptr};
  }

  void set_used(const Tokens& ids, const Floats& counts, const Tokens& places, const py::array_t<bool>& generated, uint32_t place) {
    const auto n = static_cast<size_t>(ids.size());
    if (static_cast<size_t>(counts.size()) != n || static_cast<size_t>(places.size()) != n || static_cast<size_t>(generated.size()) != n)
      throw InputError(message("used: expected as many counts, places and marks as ids, ", n));
    used_.resize(n);
    for (size_t i = 0; i < n; ++i)
      used_[i] = {ids.data()[i], counts.data()[i], static_cast<uint32_t>(places.data()[i]), generated.data()[i]};
    draw_.place = place;
  }

  static float u(double value) { return static_cast<float>(std::floor(value * 0x1p24) * 0x1p-24); }  // rounded, it might be 1
  Draw get(double value = 0) const {
    Draw draw = draw_;
    draw.u = u(value);
    draw.used = &used_;
    return draw;
  }
  bool has_penalties() const { return draw_.has_penalties(); }

 private:
  static float positive(double value) { return static_cast<float>(std::clamp(value, 1e-30, 1e30)); }
  Draw draw_;
  std::vector<Draw::Used> used_;
};

// A file that is read without an Engine.
class PyFile {
 public:
  PyFile(const std::string& path, const py::buffer& mapped)
      : data_(mapped.request()),
        file_(path, {static_cast<const std::byte*>(data_.ptr), static_cast<size_t>(data_.size * data_.itemsize)}) {}

  void check() const { file_.check(); }

 private:
  py::buffer_info data_;  // until the end: the mapping must not go while it is watched
  ModelFile file_;
};

class PyEngine {
 public:
  PyEngine(const std::string& architecture, const std::map<std::string, double>& config, const std::vector<TensorTuple>& tensors,
           const py::buffer& data, const std::string& device, uint32_t n_threads, const std::string& numerics,
           const std::function<void(uint64_t, uint64_t)>& progress, const std::string& source, uint64_t max_device_memory,
           const std::string& file) {
    // The plan points into the file's bytes: they stay where they are until the last of its States lets go of the Engine.
    struct Loaded {
      py::buffer_info data;
      std::unique_ptr<Engine> engine;
      ~Loaded() {
        if (!engine) return;
        if (engine->is_forked()) {
          static_cast<void>(engine.release());  // see Engine::is_forked()
          return;
        }
        const Released release;
        engine = nullptr;
      }
    };
    const auto loaded = std::make_shared<Loaded>();
    loaded->data = data.request();
    const py::buffer_info& bytes = loaded->data;
    Plan plan;
    try {
      plan = build_plan(ModelSource(architecture, config, tensor_sources(tensors, bytes)));
    } catch (const InputError& error) {
      if (!file.empty()) throw FileError(message("[model] ", source, ": ", error.what()));
      throw InputError(source.empty() ? error.what() : message(source, ": ", error.what()));
    }
    LoadOptions options{
        .numerics = parse_numerics(numerics), .max_device_memory = max_device_memory, .file = nullptr, .progress = nullptr};
    if (!file.empty()) {
      const std::span<const std::byte> mapped(static_cast<const std::byte*>(bytes.ptr), static_cast<size_t>(bytes.size * bytes.itemsize));
      options.file = std::make_shared<ModelFile>(file, mapped);
    }
    if (progress)
      options.progress = [&](uint64_t done, uint64_t total) {
        if (is_leaving()) throw DeviceError("[model] Python ended while it was loaded");
        const py::gil_scoped_acquire acquire;
        progress(done, total);
      };
    const Released release;
    loaded->engine = std::make_unique<Engine>(std::move(plan), open_backend(device, n_threads), options);
    engine_ = std::shared_ptr<Engine>(loaded, loaded->engine.get());
    engine_->interrupted = [] {
      if (is_leaving()) return true;
      const py::gil_scoped_acquire acquire;
      return PyErr_CheckSignals() != 0;  // the signal's exception stays set
    };
  }

  py::dict info() const {
    const Plan& plan = engine_->plan();
    const DeviceInfo& device = engine_->device();
    py::dict d;
    d["device"] = device.id;
    d["device_name"] = device.name;
    d["backend"] = device.backend;
    d["driver"] = device.driver;
    d["kind"] = kind_name(device.kind);
    d["features"] = device.features;
    d["n_threads"] = device.n_threads;
    d["architecture"] = plan.architecture;
    d["n_layer"] = plan.n_layer;
    d["n_embd"] = plan.n_embd;
    d["n_head"] = plan.n_head;
    d["head_size"] = plan.head_size;
    d["n_vocab"] = plan.n_vocab;
    d["context_length"] = plan.context_length;
    d["weight_bytes"] = plan.weight_bytes();
    d["device_bytes"] = engine_->device_bytes();
    const MemoryUse memory = engine_->memory();
    d["max_device_memory"] = memory.budget;
    d["device_bytes_used"] = memory.used;
    d["device_bytes_peak"] = memory.peak;
    d["layers"] = memory.layers;
    d["resident_layers"] = memory.resident_layers;
    d["streamed_bytes"] = memory.streamed_bytes;
    d["host_bytes"] = memory.host_bytes;
    d["state_bytes"] = plan.state_values() * sizeof(float);
    d["prefill_rows"] = engine_->prefill_rows();
    d["max_batch"] = engine_->max_batch();
    d["scratch_bytes"] = engine_->scratch_bytes();
    d["programs"] = engine_->n_programs();
    return d;
  }

  py::dict ceilings() {
    Ceilings c;
    {
      const Released release;
      c = engine_->measure_ceilings();
    }
    py::dict d;
    d["read_bytes_per_second"] = c.read_bytes_per_second;
    d["dispatch_seconds"] = c.dispatch_seconds;
    d["int8_per_second"] = c.int8_per_second;
    d["f16_per_second"] = c.f16_per_second;
    d["f32_per_second"] = c.f32_per_second;
    d["matrix_per_second"] = c.matrix_per_second;
    d["upload_bytes_per_second"] = c.upload_bytes_per_second;
    return d;
  }

  void set_tuning(const std::string& text) {
    const Released release;
    engine_->set_tuning(text);
  }
  std::vector<std::string> tuning_variants() const { return engine_->tuning_variants(); }
  std::vector<uint32_t> prefill_choices() const { return engine_->prefill_choices(); }
  void check_file() const { engine_->check_whole_file(); }
  std::string kernels_id() const { return engine_->kernels_id(); }

  py::dict profile(uint32_t rows, uint32_t sequences, uint32_t repeats, double warm_seconds) {
    StepProfile profile;
    run([&] { profile = engine_->profile(rows, sequences, repeats, warm_seconds); });
    py::list ops;
    for (const OpTime& op : profile.times.ops) {
      py::dict d;
      d["label"] = op.label;
      d["layer"] = op.layer;
      d["microseconds"] = op.microseconds;
      d["bytes"] = op.bytes;
      d["operations"] = op.operations;
      d["arithmetic"] = arithmetic_name(op.arithmetic);
      ops.append(d);
    }
    py::dict d;
    py::list uploads;
    for (const UploadTime& upload : profile.times.uploads) {
      py::dict entry;
      entry["label"] = upload.label;
      entry["bytes"] = upload.bytes;
      entry["microseconds"] = upload.microseconds;
      entry["first_op"] = upload.first_op;
      uploads.append(entry);
    }
    d["uploads"] = uploads;
    d["upload_microseconds"] = profile.times.upload_microseconds;
    d["rows"] = profile.rows;
    d["sequences"] = profile.sequences;
    d["timestamps"] = profile.times.timestamps;
    d["step_seconds"] = profile.step_seconds;
    d["submit_seconds"] = profile.submit_seconds;
    d["alone_seconds"] = profile.alone_seconds;
    d["ops"] = ops;
    return d;
  }

  PyState new_state() const {
    const Released release;  // whoever runs the model may be waiting for it
    return {engine_, engine_->create_state()};
  }

  py::object forward(const Tokens& tokens, PyState* state_in, PyState& state_out, const std::string& rows,
                     const std::function<void(size_t, size_t)>& progress) {
    check(state_in, state_out);
    const std::span<const int32_t> ids = view(tokens);
    const auto V = static_cast<py::ssize_t>(engine_->plan().n_vocab);
    py::object result = py::none();
    std::span<float> out;
    if (rows == "last" || rows == "all") {
      auto logits = rows == "last" ? py::array_t<float>(V) : py::array_t<float>({static_cast<py::ssize_t>(ids.size()), V});
      out = {logits.mutable_data(), static_cast<size_t>(logits.size())};
      result = logits;
    } else if (rows != "none") {
      throw InputError(message("rows: expected \"last\", \"all\" or \"none\", got \"", rows, "\""));
    }
    run([&] { engine_->forward(ids, in(state_in), state_out.get(), out, with_gil(progress)); });
    return result;
  }

  py::object forward_batch(const std::vector<Tokens>& tokens, const std::vector<PyState*>& states_in,
                           const std::vector<PyState*>& states_out, const std::string& rows,
                           const std::function<void(size_t, size_t)>& progress) {
    const std::vector<Sequence> sequences = batch(tokens, states_in, states_out);
    py::object result = py::none();
    std::span<float> out;
    if (rows == "last") {
      py::array_t<float> logits({sequences.size(), size_t{engine_->plan().n_vocab}});
      out = {logits.mutable_data(), static_cast<size_t>(logits.size())};
      result = logits;
    } else if (rows != "none") {
      throw InputError(message("rows: expected \"last\" or \"none\", got \"", rows, "\""));
    }
    run([&] { engine_->forward_batch(sequences, out, with_gil(progress)); });
    return result;
  }

  py::tuple candidates_batch(const std::vector<Tokens>& tokens, const std::vector<PyState*>& states_in,
                             const std::vector<PyState*>& states_out, uint32_t k,
                             const std::vector<std::optional<std::pair<Tokens, Floats>>>& biases) {
    std::vector<Sequence> sequences = batch(tokens, states_in, states_out);
    if (biases.size() != sequences.size())
      throw InputError(message("biases: expected one per sequence, ", sequences.size(), ", got ", biases.size()));
    for (size_t i = 0; i < biases.size(); ++i) sequences[i] = with_bias(sequences[i], biases[i]);
    if (k > engine_->plan().n_vocab)
      throw InputError(message("k: expected 1 to ", engine_->plan().n_vocab, ", got ", k));
    py::array_t<int32_t> ids({sequences.size(), size_t{k}});
    py::array_t<float> logits({sequences.size(), size_t{k}}), log_sum_exps(static_cast<py::ssize_t>(sequences.size()));
    const std::span<int32_t> ids_out(ids.mutable_data(), static_cast<size_t>(ids.size()));
    const std::span<float> logits_out(logits.mutable_data(), static_cast<size_t>(logits.size()));
    const std::span<float> sums_out(log_sum_exps.mutable_data(), sequences.size());
    run([&] { engine_->candidates_batch(sequences, k, ids_out, logits_out, sums_out); });
    return py::make_tuple(ids, logits, log_sum_exps);
  }

  py::array_t<float> hidden(const Tokens& tokens, PyState* state_in, PyState& state_out) {
    check(state_in, state_out);
    const std::span<const int32_t> ids = view(tokens);
    py::array_t<float> out(static_cast<py::ssize_t>(engine_->plan().n_embd));
    const std::span<float> values(out.mutable_data(), static_cast<size_t>(out.size()));
    run([&] { engine_->hidden(ids, in(state_in), state_out.get(), values); });
    return out;
  }

  py::tuple candidates(const Tokens& tokens, PyState* state_in, PyState& state_out, uint32_t k, const Tokens& bias_ids,
                       const Floats& bias_values) {
    check(state_in, state_out);
    const std::span<const int32_t> ids_in = view(tokens), bias = view(bias_ids);
    const std::span<const float> biases(bias_values.data(), static_cast<size_t>(bias_values.size()));
    if (k > engine_->plan().n_vocab)
      throw InputError(message("k: expected 1 to ", engine_->plan().n_vocab, ", got ", k));
    py::array_t<int32_t> ids(static_cast<py::ssize_t>(k));
    py::array_t<float> logits(static_cast<py::ssize_t>(k));
    const std::span<int32_t> ids_out(ids.mutable_data(), k);
    const std::span<float> logits_out(logits.mutable_data(), k);
    float log_sum_exp = 0;
    run([&] {
      log_sum_exp = engine_->candidates(ids_in, in(state_in), state_out.get(), bias, biases, ids_out, logits_out);
    });
    return py::make_tuple(ids, logits, log_sum_exp);
  }

  std::vector<int32_t> greedy(int32_t token, PyState& state, size_t n, const Tokens& stop_ids, const py::object& callback) {
    check(nullptr, state);
    std::vector<int32_t> tokens;
    const auto on_token = watch(tokens, view(stop_ids), callback);
    run([&] { engine_->greedy(token, state.get(), n, on_token); });
    if (PyErr_Occurred()) throw py::error_already_set();
    return tokens;
  }

  uint32_t rounded_up(uint32_t sequences) const { return engine_->rounded_up(sequences); }

  bool can_draw(uint32_t sequences, bool penalties) {
    const Released release;
    return engine_->can_draw(sequences, penalties);
  }

  std::vector<int32_t> draw(int32_t token, PyState& state, const Doubles& us, const PyDraw& draw,
                            const std::optional<std::pair<Tokens, Floats>>& bias, const Tokens& stop_ids, const py::object& callback) {
    check(nullptr, state);
    std::vector<float> numbers(static_cast<size_t>(us.size()));
    std::transform(us.data(), us.data() + us.size(), numbers.begin(), PyDraw::u);
    const Sequence biased = with_bias({}, bias);
    const Draw how = draw.get();
    std::vector<int32_t> tokens;
    const auto on_token = watch(tokens, view(stop_ids), callback);
    run([&] { engine_->draw(token, state.get(), numbers, how, biased.bias_ids, biased.bias_values, on_token); });
    if (PyErr_Occurred()) throw py::error_already_set();
    return tokens;
  }

  py::array_t<int32_t> draw_batch(const std::vector<Tokens>& tokens, const std::vector<PyState*>& states_in,
                                  const std::vector<PyState*>& states_out, const std::vector<const PyDraw*>& draws,
                                  const Doubles& us, const std::vector<std::optional<std::pair<Tokens, Floats>>>& biases) {
    std::vector<Sequence> sequences = batch(tokens, states_in, states_out);
    const std::vector<Draw> how = set_draws(sequences, draws, us, biases);
    py::array_t<int32_t> out(static_cast<py::ssize_t>(sequences.size()));
    const std::span<int32_t> values(out.mutable_data(), sequences.size());
    run([&] { engine_->draw_batch(sequences, values); });
    return out;
  }

  py::array_t<int32_t> draw_on(const std::vector<Tokens>& tokens, const std::vector<PyState*>& states,
                               const std::vector<const PyDraw*>& draws, const Doubles& us,
                               const std::vector<std::optional<std::pair<Tokens, Floats>>>& biases, const py::object& callback) {
    std::vector<Sequence> sequences = batch(tokens, states, states);
    const std::vector<Draw> how = set_draws(sequences, draws, us, biases);
    std::vector<float> numbers(static_cast<size_t>(us.size()));
    std::transform(us.data(), us.data() + us.size(), numbers.begin(), PyDraw::u);
    std::vector<int32_t> found;
    const auto on_tokens = watch(found, callback);
    run([&] { engine_->draw_on(sequences, numbers, on_tokens); });
    return steps(found, sequences.size());
  }

  py::array_t<int32_t> greedy_batch(const Tokens& tokens, const std::vector<PyState*>& states, size_t n, const py::object& callback) {
    const std::span<const int32_t> ids = view(tokens);
    std::vector<State*> raw;
    for (PyState* state : states) {
      if (state == nullptr) throw InputError("states: expected a State each, got None");
      check(nullptr, *state);
      raw.push_back(&state->get());
    }
    std::vector<int32_t> found;
    const auto on_tokens = watch(found, callback);
    run([&] { engine_->greedy_batch(ids, raw, n, on_tokens); });
    return steps(found, ids.size());
  }

 private:
  using Progress = std::function<void(size_t, size_t)>;

  static Progress with_gil(const Progress& progress) {
    if (!progress) return nullptr;
    return [&progress](size_t done, size_t total) {
      if (is_leaving()) throw Engine::Interrupted{done};
      const py::gil_scoped_acquire acquire;
      progress(done, total);
    };
  }

  std::vector<Sequence> batch(const std::vector<Tokens>& tokens, const std::vector<PyState*>& states_in,
                              const std::vector<PyState*>& states_out) const {
    if (states_in.size() != tokens.size() || states_out.size() != tokens.size())
      throw InputError(message("states: expected one per sequence, ", tokens.size(), ", got ", states_in.size(), " and ",
                               states_out.size()));
    std::vector<Sequence> sequences;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (states_out[i] == nullptr) throw InputError(message("sequence ", i, ": state_out: expected a State, got None"));
      check(states_in[i], *states_out[i]);
      sequences.push_back({.tokens = view(tokens[i]), .state_in = in(states_in[i]), .state_out = &states_out[i]->get()});
    }
    return sequences;
  }

  // Keeps each token that the device has found; the run ends at one of `stops`, or when the callback says so.
  std::function<bool(int32_t)> watch(std::vector<int32_t>& tokens, std::span<const int32_t> stops, const py::object& callback) const {
    return [&tokens, stops, &callback, calls = !callback.is_none(), this](int32_t next) {
      tokens.push_back(next);
      if (is_leaving()) return false;
      if (std::find(stops.begin(), stops.end(), next) != stops.end()) return false;
      if (!calls) return tokens.size() % 64 != 0 || !engine_->interrupted();
      const py::gil_scoped_acquire acquire;
      return callback(next).cast<bool>();
    };
  }

  // Likewise the tokens of each step of several sequences.
  Engine::OnTokens watch(std::vector<int32_t>& found, const py::object& callback) const {
    return [&found, &callback, calls = !callback.is_none(), going = true, this](std::span<const int32_t> tokens) mutable {
      found.insert(found.end(), tokens.begin(), tokens.end());
      if (is_leaving()) return false;
      if (!calls) {
        if (going && found.size() / tokens.size() % 8 == 0) going = !engine_->interrupted();
        return going;
      }
      const py::gil_scoped_acquire acquire;
      return callback(std::vector<int32_t>(tokens.begin(), tokens.end())).cast<bool>();
    };
  }

  // [steps][sequences]
  static py::array_t<int32_t> steps(const std::vector<int32_t>& found, size_t sequences) {
    if (PyErr_Occurred()) throw py::error_already_set();
    py::array_t<int32_t> out({found.size() / sequences, sequences});
    std::copy(found.begin(), found.end(), out.mutable_data());
    return out;
  }

  static Sequence with_bias(Sequence sequence, const std::optional<std::pair<Tokens, Floats>>& bias) {
    if (!bias) return sequence;
    sequence.bias_ids = view(bias->first);
    sequence.bias_values = {bias->second.data(), static_cast<size_t>(bias->second.size())};
    return sequence;
  }

  // What the sequences point to afterwards. us: [B], or [n, B], whose first row counts. A draw may be None: no matter what.
  std::vector<Draw> set_draws(std::vector<Sequence>& sequences, const std::vector<const PyDraw*>& draws, const Doubles& us,
                              const std::vector<std::optional<std::pair<Tokens, Floats>>>& biases) const {
    const size_t B = sequences.size();
    if (draws.size() != B || biases.size() != B || us.ndim() == 0 || static_cast<size_t>(us.shape(us.ndim() - 1)) != B ||
        us.size() == 0)
      throw InputError(message("draws: expected a draw, a bias and u's for each of ", B, " sequences"));
    std::vector<Draw> how(B);
    for (size_t i = 0; i < B; ++i) {
      sequences[i] = with_bias(sequences[i], biases[i]);
      if (draws[i] == nullptr) continue;
      how[i] = draws[i]->get(us.data()[i]);
      sequences[i].draw = &how[i];
    }
    return how;
  }

  static const State* in(PyState* state) { return state ? &state->get() : nullptr; }

  void check(PyState* state_in, PyState& state_out) const {
    if ((state_in && !state_in->belongs_to(engine_)) || !state_out.belongs_to(engine_))
      throw InputError("state: it belongs to another model");
  }

  template <class Function>
  void run(Function&& function) {
    leave_if_asked();
    try {
      const Released release;
      function();
    } catch (const Engine::Interrupted&) {
      leave_if_asked();
      throw py::error_already_set();
    }
    leave_if_asked();
  }

  std::shared_ptr<Engine> engine_;
};

}  // namespace

void bind_engine(py::module_& m) {
  py::class_<PyFile>(m, "ModelFile", "Watches a mapped file: reading what it has lost finds zeros instead of ending the process.")
      .def(py::init<const std::string&, const py::buffer&>(), py::arg("path"), py::arg("mapped"))
      .def("check", &PyFile::check, "FileError if the file was written to or truncated since, or could not be read.");

  m.def(
      "devices",
      [] {
        std::vector<DeviceInfo> found;
        {
          const Released release;  // loading Dawn needs it, on whichever thread that happens
          found = list_devices();
        }
        py::list devices;
        for (const DeviceInfo& info : found) devices.append(describe(info));
        return devices;
      },
      "Every device that a model can be loaded on, as dicts: device, name, backend, kind, memory_bytes, features.");
  m.def("cpu_kernels", &cpu_kernels, "The kernel sets that this processor runs, fastest first; device=\"cpu:NAME\" picks one.");
  m.def("architectures", &architectures, "The architectures that Engine takes.");

  py::class_<PyState>(m, "State", "The recurrent state of one sequence, on the device.")
      .def("copy", &PyState::copy)
      .def("read", &PyState::read, "name -> float32 [n_layer, ...]")
      .def("write", &PyState::write, py::arg("parts"), "Takes what read() gives.")
      .def_property_readonly("nbytes", &PyState::n_bytes);

  py::class_<PyDraw>(m, "Draw", "How the device draws a token: rwkvnative.sampling says what each parameter means.")
      .def(py::init<uint32_t, double, double, double, bool, double, double, double, double, uint32_t>(), py::kw_only(),
           py::arg("top_k") = 0, py::arg("top_p") = 1.0, py::arg("min_p") = 0.0, py::arg("temperature") = 1.0,
           py::arg("bans") = false, py::arg("presence") = 0.0, py::arg("frequency") = 0.0, py::arg("decay") = 1.0,
           py::arg("repeat") = 1.0, py::arg("repeat_last_n") = 0)
      .def("set_used", &PyDraw::set_used, py::arg("ids"), py::arg("counts"), py::arg("places"), py::arg("generated"),
           py::arg("place"),
           "The tokens that penalties are for: distinct ids int32, decayed counts among the generated ones float32, places of the last "
           "use from 1 on (0: long ago) int32, whether they were generated; and the place of the token that is drawn next.")
      .def_property_readonly("has_penalties", &PyDraw::has_penalties);
  py::class_<PyEngine>(m, "Engine", "A model on a device.")
      .def(py::init<const std::string&, const std::map<std::string, double>&, const std::vector<TensorTuple>&, const py::buffer&,
                    const std::string&, uint32_t, const std::string&, const std::function<void(uint64_t, uint64_t)>&, const std::string&, uint64_t, const std::string&>(),
           py::arg("arch"), py::arg("config"), py::arg("tensors"), py::arg("data"), py::arg("device") = "auto",
           py::arg("n_threads") = 0, py::arg("numerics") = "auto", py::arg("progress") = nullptr,
           py::arg("source") = "", py::arg("max_device_memory") = 0,
           py::arg("file") = "",
           "`source` is the file's name for messages about its tensors; max_device_memory: bytes, 0 for no limit; `file`: the path "
           "that `data` is the mapping of, if it is one: it is watched for changes.")
      .def_property_readonly("info", &PyEngine::info)
      .def("ceilings", &PyEngine::ceilings,
           "What the device can do at best, measured now (csrc/core/profile.h); 0 where it cannot.")
      .def("profile", &PyEngine::profile, py::arg("rows"), py::arg("sequences") = 1, py::arg("repeats") = 5,
           py::arg("warm_seconds") = 0.5,
           "Times a step of `rows` tokens op by op. rows == sequences: greedy decoding; else a chunk of a prompt.")
      .def("set_tuning", &PyEngine::set_tuning, py::arg("text"), "Kernel constants in the backend's own syntax; \"\": its defaults.")
      .def("tuning_variants", &PyEngine::tuning_variants, "Texts for set_tuning that are worth trying.")
      .def("prefill_choices", &PyEngine::prefill_choices, "Numbers for \"prefill_rows=\" in set_tuning that are worth trying.")
      .def_property_readonly("kernels_id", &PyEngine::kernels_id, "Changes when the backend's kernels do.")
      .def("check_file", &PyEngine::check_file, "FileError if the model's file has changed since it was opened.")
      .def("new_state", &PyEngine::new_state, "A fresh state: zeros.")
      .def("forward", &PyEngine::forward, py::arg("tokens"), py::arg("state_in").none(true), py::arg("state_out"),
           py::arg("rows") = "last", py::arg("progress") = nullptr,
           "float32 logits: [V] (rows=\"last\"), [T, V] (\"all\") or None (\"none\"). progress(tokens_read, tokens_to_read).")
      .def("forward_batch", &PyEngine::forward_batch, py::arg("tokens"), py::arg("states_in"), py::arg("states_out"),
           py::arg("rows") = "last", py::arg("progress") = nullptr,
           "float32 logits [B, V] after the last token of each sequence (rows=\"last\") or None (\"none\").")
      .def("candidates_batch", &PyEngine::candidates_batch, py::arg("tokens"), py::arg("states_in"), py::arg("states_out"),
           py::arg("k"), py::arg("biases"),
           "candidates() of B sequences: ids [B, k], logits [B, k], logsumexp [B]. biases: None or (ids, values) for each.")
      .def("greedy_batch", &PyEngine::greedy_batch, py::arg("tokens"), py::arg("states"), py::arg("n"),
           py::arg("callback") = py::none(),
           "int32 [n or fewer, B]: n times the best next token of each sequence after the one before, first after `tokens`. "
           "callback(list of B tokens) sees each step while the device is at the next; when it is false the steps begun are the "
           "last. Each state has then seen its token and all of the new ones but the last.")
      .def("rounded_up", &PyEngine::rounded_up, py::arg("sequences"),
           "Of so many sequences, at most info['max_batch'], the number that a step is compiled for.")
      .def("can_draw", &PyEngine::can_draw, py::arg("sequences"), py::arg("penalties"),
           "Whether the device draws tokens of so many sequences at once, some of them with penalties or none.")
      .def("draw", &PyEngine::draw, py::arg("token"), py::arg("state"), py::arg("us"), py::arg("draw"), py::arg("bias").none(true),
           py::arg("stop_ids"), py::arg("callback") = py::none(),
           "As greedy(), each token drawn with the next of us: float64 [n], 0 <= u < 1. Fewer than n tokens without an end: there is "
           "none to draw, and the state has not seen the last one.")
      .def("draw_batch", &PyEngine::draw_batch, py::arg("tokens"), py::arg("states_in"), py::arg("states_out"), py::arg("draws"),
           py::arg("us"), py::arg("biases"),
           "int32 [B]: a token drawn after the last one of each sequence, -1: there is none. us: [B]. A draw of None: no matter what.")
      .def("draw_on", &PyEngine::draw_on, py::arg("tokens"), py::arg("states"), py::arg("draws"), py::arg("us"), py::arg("biases"),
           py::arg("callback") = py::none(),
           "int32 [n or fewer, B]: as greedy_batch(), drawn with us [n, B]. Past a -1 a sequence's tokens and state mean nothing.")
      .def("hidden", &PyEngine::hidden, py::arg("tokens"), py::arg("state_in").none(true), py::arg("state_out"),
           "float32 [C]: the normalized hidden state after the last token.")
      .def("candidates", &PyEngine::candidates, py::arg("tokens"), py::arg("state_in").none(true), py::arg("state_out"),
           py::arg("k"), py::arg("bias_ids"), py::arg("bias_values"),
           "(ids int32 [k], logits float32 [k], log of the sum of exp over the vocabulary), best first, bias added.")
      .def("greedy", &PyEngine::greedy, py::arg("token"), py::arg("state"), py::arg("n"), py::arg("stop_ids"),
           py::arg("callback") = py::none(),
           "Feeds `token` and then each best next token, n times at most; ends after one of stop_ids or when callback(token) "
           "is false. The state has then seen all but the last of the returned tokens.");
}
