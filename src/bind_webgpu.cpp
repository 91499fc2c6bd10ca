// Where the WebGPU backend finds Dawn, and what only its benchmarks ask.
#include <pybind11/pybind11.h>

#ifdef RWKVNATIVE_WEBGPU

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "core/architecture.h"
#include "core/error.h"
#include "core/tickets.h"
#include "tensor_tuples.h"
#include "webgpu/model.h"
#include "webgpu/program.h"
#include "webgpu/webgpu.h"

namespace py = pybind11;
using namespace rwkvnative;

namespace {

// rwkvnative.dawn.addresses(), called when Dawn is first needed.
DawnAddresses find_dawn() {
  const py::gil_scoped_acquire acquire;
  try {
    const auto [get_proc_address, enumerate_adapters] =
        py::module_::import("rwkvnative.dawn").attr("addresses")().cast<std::pair<uintptr_t, uintptr_t>>();
    return {get_proc_address, enumerate_adapters};
  } catch (const py::error_already_set& error) {
    throw DeviceError(message("[webgpu] ", py::str(error.value()).cast<std::string>()));
  }
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Runs bursts of work for `least` seconds, and until three in a row are no faster than those before: a GPU lowers its clocks while
// kernels compile, and takes its time to raise them.
void warm_up(double least, const std::function<void(const std::function<bool(size_t)>& more)>& run) {
  constexpr double kMost = 3, kBurst = 0.03, kFaster = 0.03;
  const Clock::time_point start = Clock::now();
  double best = std::numeric_limits<double>::infinity();
  for (int steady = 0; seconds_since(start) < kMost && (seconds_since(start) < least || steady < 3);) {
    const Clock::time_point burst = Clock::now();
    size_t steps = 0;
    run([&](size_t done) {
      steps = done;
      return seconds_since(burst) < kBurst;
    });
    const double each = seconds_since(burst) / static_cast<double>(steps);
    steady = each > (1 - kFaster) * best ? steady + 1 : 0;
    best = std::min(best, each);
  }
}

// A loaded model whose decoding is timed with one set of tuning constants after the other.
class WebgpuBenchmark {
 public:
  WebgpuBenchmark(const std::string& architecture, const std::map<std::string, double>& config,
                  const std::vector<TensorTuple>& tensors, const py::buffer& data, const std::string& device,
                  const std::string& numerics)
      : data_(data.request()), plan_(build_plan(ModelSource(architecture, config, tensor_sources(tensors, data_)))), backend_(device) {
    const Clock::time_point start = Clock::now();
    model_ = backend_.load(plan_, {.numerics = numerics == "f32" ? Numerics::F32 : Numerics::Int8, .max_device_memory = 0, .file = nullptr, .progress = nullptr});
    load_seconds_ = seconds_since(start);
    state_ = model_->create_state();
  }

  // Greedy decoding from one token, tickets in flight, as Engine::greedy does it: warm_up(), then n tokens timed.
  // draw_top_p: draws each token from so much of the distribution instead; 0: does not.
  py::dict decode(const std::string& tuning, double warm, size_t n, size_t profiles, float draw_top_p) {
    tune(tuning);
    const Clock::time_point compile_start = Clock::now();
    const Readout readout = draw_top_p > 0 ? Readout::Draw : Readout::Argmax;
    const auto program = model_->compile({.rows = 1, .sequences = 1, .readout = readout, .candidates = 0});
    Draw draw{.top_p = draw_top_p};
    const double compile_seconds = seconds_since(compile_start);
    const int32_t token = 1;
    Sequence sequence{.tokens = std::span(&token, 1), .state_in = nullptr, .state_out = state_.get()};
    Tickets flying(*program);
    double submit_seconds = 0;
    int32_t last = 0;
    const auto run = [&](auto more) {
      for (size_t done = 0; more(done); ++done) {
        while (flying.size() < program->max_in_flight()) {
          const Clock::time_point start = Clock::now();
          draw.u = std::fmod(draw.u + 0.618034f, 1.0f);
          sequence.draw = &draw;
          flying.submit(std::span(&sequence, 1));
          submit_seconds += seconds_since(start);
          sequence.tokens = {};
          sequence.state_in = state_.get();
        }
        last = flying.take().tokens[0];
      }
    };
    warm_up(warm, run);
    submit_seconds = 0;
    const Clock::time_point start = Clock::now();
    run([&](size_t done) { return done < n; });
    const double seconds = seconds_since(start);
    while (flying.size() != 0) flying.take();

    const auto ops = profile(*program, std::span(&sequence, 1), profiles);
    py::dict result;
    result["tokens_per_second"] = static_cast<double>(n) / seconds;
    result["submit_us"] = 1e6 * submit_seconds / static_cast<double>(n);
    result["compile_seconds"] = compile_seconds;
    result["load_seconds"] = load_seconds_;
    result["last_token"] = last;
    result["ops"] = ops;
    return result;
  }

  // A crowd: `sequences` sequences of `rows` tokens each in one submit, again and again, their states in place. One row: greedy
  // decoding, the tokens staying on the device, or if `candidates` is not 0 the same tokens again and so many candidates read
  // back; more rows: prefill, whose next tokens are not chosen. warm_up(), then n submits timed.
  py::dict batch(const std::string& tuning, uint32_t sequences, uint32_t rows, uint32_t candidates, double warm,
                 size_t n, size_t profiles) {
    tune(tuning);
    const size_t kernels = backend_.kernels();
    const std::multimap<std::string, double> compiled_before = backend_.compile_seconds();
    const Clock::time_point compile_start = Clock::now();
    const Readout readout = candidates != 0 ? Readout::Candidates : rows == 1 ? Readout::Argmax : Readout::None;
    const auto program =
        model_->compile({.rows = rows * sequences, .sequences = sequences, .readout = readout, .candidates = candidates});
    const double compile_seconds = seconds_since(compile_start);
    const size_t compiled = backend_.kernels() - kernels;
    std::multimap<std::string, double> kernel_seconds = backend_.compile_seconds();
    for (const auto& entry : compiled_before) kernel_seconds.erase(std::find(kernel_seconds.begin(), kernel_seconds.end(), entry));
    std::vector<int32_t> tokens(rows);
    for (uint32_t i = 0; i < rows; ++i) tokens[i] = static_cast<int32_t>(i % plan_.n_vocab);
    std::vector<std::unique_ptr<State>> states;
    std::vector<Sequence> work;
    for (uint32_t i = 0; i < sequences; ++i) {
      states.push_back(model_->create_state());
      work.push_back({.tokens = tokens, .state_in = states.back().get(), .state_out = states.back().get()});
    }
    Tickets flying(*program);
    double submit_seconds = 0;
    const uint64_t submits_before = backend_.device().submits();
    uint64_t tickets = 0;
    const auto run = [&](auto more) {
      for (size_t done = 0; more(done); ++done) {
        while (flying.size() < program->max_in_flight()) {
          const Clock::time_point start = Clock::now();
          flying.submit(work);
          ++tickets;
          submit_seconds += seconds_since(start);
          if (readout == Readout::Argmax)
            for (Sequence& sequence : work) sequence.tokens = {};
        }
        flying.take();
      }
    };
    warm_up(warm, run);
    submit_seconds = 0;
    const Clock::time_point start = Clock::now();
    run([&](size_t done) { return done < n; });
    const double seconds = seconds_since(start);
    while (flying.size() != 0) flying.take();
    const uint64_t submits = backend_.device().submits() - submits_before;
    const auto ops = profile(*program, work, profiles);
    py::dict result;
    result["tokens_per_second"] = static_cast<double>(n) * rows * sequences / seconds;
    result["submit_us"] = 1e6 * submit_seconds / static_cast<double>(n);
    result["submits"] = static_cast<double>(submits) / static_cast<double>(tickets);  // of a ticket
    result["compile_seconds"] = compile_seconds;
    result["kernels"] = compiled;
    result["kernel_seconds"] = std::vector<std::pair<std::string, double>>(kernel_seconds.begin(), kernel_seconds.end());
    result["ops"] = ops;
    return result;
  }

 private:
  void tune(const std::string& tuning) {
    backend_.set_tuning(tuning);
    if (model_->wants_reload()) model_->reload();
  }
  // label -> (dispatches, microseconds) of one submit
  std::map<std::string, std::pair<size_t, double>> profile(Program& program, std::span<const Sequence> sequences,
                                                           size_t profiles) const {
    std::map<std::string, std::pair<size_t, double>> ops;
    for (size_t i = 0; i < profiles; ++i) {
      for (const OpTime& time : program.profile(sequences).ops) {
        auto& [count, total] = ops[time.label];
        if (i == 0) ++count;
        total += time.microseconds / static_cast<double>(profiles);
      }
    }
    return ops;
  }

  py::buffer_info data_;
  Plan plan_;
  webgpu::DeviceBackend backend_;
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<State> state_;
  double load_seconds_ = 0;
};

}  // namespace

void bind_webgpu(py::module_& m) {
  set_dawn_source(find_dawn);
  py::class_<WebgpuBenchmark>(m, "WebgpuBenchmark", "For benchmarks/webgpu_decode.py.")
      .def(py::init<const std::string&, const std::map<std::string, double>&, const std::vector<TensorTuple>&,
                    const py::buffer&, const std::string&, const std::string&>(),
           py::arg("arch"), py::arg("config"), py::arg("tensors"), py::arg("data"), py::arg("device") = "webgpu",
           py::arg("numerics") = "int8")
      .def("decode", &WebgpuBenchmark::decode, py::arg("tuning") = "", py::arg("warm") = 0.5, py::arg("n") = 256,
           py::arg("profiles") = 0, py::arg("draw_top_p") = 0.0f)
      .def("batch", &WebgpuBenchmark::batch, py::arg("tuning") = "", py::arg("sequences") = 1, py::arg("rows") = 1,
           py::arg("candidates") = 0, py::arg("warm") = 0.5, py::arg("n") = 16, py::arg("profiles") = 0);
  m.def("webgpu_unavailable", &webgpu_unavailable, py::call_guard<py::gil_scoped_release>(),
        "Why there is no WebGPU device, with what to do about it; \"\" where there is one.");
}

#else

void bind_webgpu(pybind11::module_&) {}

#endif
