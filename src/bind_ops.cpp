// Single ops of a plan on a device, for tests.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "backends.h"
#include "core/architecture.h"
#include "core/error.h"
#include "tensor_tuples.h"

namespace py = pybind11;
using namespace rwkvnative;

namespace {

using Tokens = py::array_t<int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

const char* kind_name(const Op& op) {
  constexpr const char* kNames[] = {"embed", "shift_mix", "linear", "wkv7", "head"};
  return kNames[op.index()];
}

// A plan cut down to some neighbouring ops, compiled for one shape of work.
class OpRunner {
 public:
  OpRunner(const std::string& architecture, const std::map<std::string, double>& config, const std::vector<TensorTuple>& tensors,
           const py::buffer& data, const std::string& device, bool int8, size_t first_op, size_t n_ops,
           const std::vector<uint32_t>& rows)
      : data_(data.request()), plan_(build_plan(ModelSource(architecture, config, tensor_sources(tensors, data_)))), rows_(rows) {
    for (const Op& op : plan_.ops) kinds_.emplace_back(kind_name(op));
    if (n_ops == 0 || first_op + n_ops > plan_.ops.size())
      throw InputError(message("ops: expected some of ", plan_.ops.size(), ", got ", n_ops, " from ", first_op, " on"));
    const auto first = plan_.ops.begin() + static_cast<ptrdiff_t>(first_op);
    plan_.ops = std::vector<Op>(first, first + static_cast<ptrdiff_t>(n_ops));
    const bool has_head = std::holds_alternative<HeadOp>(plan_.ops.back());
    Shape shape{.rows = 0, .sequences = static_cast<uint32_t>(rows.size()), .readout = has_head ? Readout::AllLogits : Readout::None};
    for (const uint32_t n : rows) shape.rows += n;
    backend_ = open_backend(device, 1);
    model_ = backend_->load(plan_, {.numerics = int8 ? Numerics::Int8 : Numerics::F32, .max_device_memory = 0, .file = nullptr, .progress = nullptr});
    program_ = model_->compile(shape);
    for (size_t s = 0; s < rows.size(); ++s) states_.push_back(model_->create_state());
    n_rows_ = shape.rows;
  }

  const std::vector<std::string>& kinds() const { return kinds_; }

  std::map<std::string, uint32_t> slots() const {
    std::map<std::string, uint32_t> widths;
    for (const Slot& slot : plan_.slots) widths[slot.name] = slot.width;
    return widths;
  }

  // Slots and states before, slots and states after; "logits" beside the slots if the head is among the ops.
  std::pair<std::map<std::string, py::array_t<float>>, py::array_t<float>> run(const Tokens& tokens, const std::map<std::string, Floats>& slots,
                                                                           const Floats& states) {
    if (static_cast<size_t>(tokens.size()) != n_rows_) throw InputError(message("tokens: expected ", n_rows_, ", got ", tokens.size()));
    const size_t n_state = plan_.state_values();
    if (static_cast<size_t>(states.size()) != states_.size() * n_state)
      throw InputError(message("states: expected ", states_.size(), " of ", n_state, " values, got ", states.size(), " values"));
    for (const auto& [name, values] : slots)
      program_->write_slot(find(name), std::span(values.data(), static_cast<size_t>(values.size())));
    std::vector<Sequence> sequences;
    size_t row = 0;
    for (size_t s = 0; s < states_.size(); ++s) {
      states_[s]->write({states.data() + s * n_state, n_state});
      sequences.push_back({.tokens = {tokens.data() + row, rows_[s]}, .state_in = states_[s].get(), .state_out = states_[s].get()});
      row += rows_[s];
    }
    const Result result = program_->wait(program_->submit(sequences));
    std::map<std::string, py::array_t<float>> after;
    if (!result.values.empty()) after["logits"] = array(result.values);
    for (const Slot& slot : plan_.slots) {
      std::vector<float> values(n_rows_ * slot.width);
      program_->read_slot(find(slot.name), values);
      after[slot.name] = array(values);
    }
    py::array_t<float> states_after({states_.size(), n_state});
    for (size_t s = 0; s < states_.size(); ++s) states_[s]->read({states_after.mutable_data() + s * n_state, n_state});
    return {after, states_after};
  }

 private:
  SlotId find(const std::string& name) const {
    const auto found = std::find_if(plan_.slots.begin(), plan_.slots.end(), [&](const Slot& slot) { return slot.name == name; });
    if (found == plan_.slots.end()) throw InputError(message("slots: this plan has none called ", name));
    return static_cast<SlotId>(found - plan_.slots.begin());
  }
  py::array_t<float> array(std::span<const float> values) const {  // [rows][width]
    py::array_t<float> out({n_rows_, values.size() / n_rows_});
    std::copy(values.begin(), values.end(), out.mutable_data());
    return out;
  }

  py::buffer_info data_;
  Plan plan_;
  std::vector<uint32_t> rows_;
  size_t n_rows_ = 0;
  std::vector<std::string> kinds_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<Program> program_;
  std::vector<std::unique_ptr<State>> states_;
};

}  // namespace

void bind_ops(py::module_& m) {
  py::class_<OpRunner>(m, "OpRunner", "Some neighbouring ops of a model's plan on a device, for tests of single ops.")
      .def(py::init<const std::string&, const std::map<std::string, double>&, const std::vector<TensorTuple>&, const py::buffer&,
                    const std::string&, bool, size_t, size_t, const std::vector<uint32_t>&>(),
           py::arg("arch"), py::arg("config"), py::arg("tensors"), py::arg("data"), py::arg("device"), py::arg("int8"),
           py::arg("first_op"), py::arg("n_ops"), py::arg("rows"), "rows: how many tokens each sequence brings.")
      .def_property_readonly("kinds", &OpRunner::kinds, "The kind of each op of the whole plan.")
      .def_property_readonly("slots", &OpRunner::slots, "Width of each slot.")
      .def("run", &OpRunner::run, py::arg("tokens"), py::arg("slots"), py::arg("states"),
           "tokens int32 [rows], slots: name -> float32 [rows, width], states float32 [sequences, values]: all of them before, and "
           "(slots, states) after.");
}
