// Python bindings of the tensor type table: dtypes(), quantize(), dequantize().

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/quantize.h"
#include "released.h"

namespace py = pybind11;

namespace {

using rwkvnative::DTypeTraits;
using rwkvnative::InputError;
using rwkvnative::message;

const DTypeTraits& traits_of(std::int64_t ggml_type) {
  constexpr std::int64_t kUnknown = std::numeric_limits<std::uint32_t>::max();
  const bool is_id = ggml_type >= 0 && ggml_type < kUnknown;
  return rwkvnative::traits(static_cast<rwkvnative::DType>(is_id ? ggml_type : kUnknown));
}

/// A contiguous view of any object with the buffer protocol, released on destruction.
class BytesView {
 public:
  BytesView(py::handle object, const char* where) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) {
      PyErr_Clear();
      throw InputError(message(where, ": expected a contiguous buffer of bytes, got ", Py_TYPE(object.ptr())->tp_name));
    }
  }
  ~BytesView() { PyBuffer_Release(&view_); }
  BytesView(const BytesView&) = delete;
  BytesView& operator=(const BytesView&) = delete;

  const std::byte* data() const { return static_cast<const std::byte*>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
};

/// `values` as a C-contiguous float32 array of `n_dims` dimensions; copies only if it is not contiguous.
py::array_t<float, py::array::c_style> float_array(const py::array& values, py::ssize_t n_dims, const char* where) {
  if (!values.dtype().equal(py::dtype::of<float>())) {
    throw InputError(message(where, ": expected float32, got ", std::string(py::str(values.dtype()))));
  }
  if (values.ndim() != n_dims) {
    throw InputError(message(where, ": expected ", n_dims, " dimensions, got ", values.ndim()));
  }
  return py::array_t<float, py::array::c_style>::ensure(values);
}

py::list dtypes() {
  py::list rows;
  for (const DTypeTraits& row : rwkvnative::dtype_table()) {
    py::dict entry;
    entry["name"] = row.name;
    entry["ggml_type"] = static_cast<std::uint32_t>(row.type);
    entry["block_values"] = row.block_values;
    entry["block_bytes"] = row.block_bytes;
    rows.append(entry);
  }
  return rows;
}

py::bytes quantize(const py::array& values, std::int64_t ggml_type, const py::object& importance, unsigned n_threads,
                   std::size_t first_row) {
  const DTypeTraits& dtype = traits_of(ggml_type);
  const auto rows = float_array(values, 2, "[quantize] values");
  const auto n_rows = static_cast<std::size_t>(rows.shape(0)), n_values = static_cast<std::size_t>(rows.shape(1));

  py::array_t<float, py::array::c_style> weights;
  if (!importance.is_none()) {
    weights = float_array(py::array::ensure(importance), 1, "[quantize] importance");
    if (static_cast<std::size_t>(weights.size()) != n_values) {
      throw InputError(message("[quantize] importance: expected ", n_values, " weights, got ", weights.size()));
    }
  }

  auto result = py::reinterpret_steal<py::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(n_rows * dtype.bytes(n_values))));
  if (!result) throw py::error_already_set();
  {
    void* out = PyBytes_AS_STRING(result.ptr());
    const rwkvnative::Released released;
    rwkvnative::quantize_rows(dtype.type, rows.data(), n_rows, n_values, out,
                              importance.is_none() ? nullptr : weights.data(), n_threads, first_row);
  }
  return result;
}

py::array_t<float> dequantize(const py::object& blocks, std::int64_t ggml_type, std::int64_t n_values) {
  const DTypeTraits& dtype = traits_of(ggml_type);
  const BytesView bytes(blocks, "[dequantize] blocks");
  const std::size_t n_blocks = bytes.size() / dtype.block_bytes;
  if (n_values < 0 || n_values % dtype.block_values != 0) {
    throw InputError(message("[dequantize] n_values: expected a multiple of ", dtype.block_values, " for ", dtype.name,
                             ", got ", n_values));
  }
  const std::size_t expected_blocks = static_cast<std::size_t>(n_values) / dtype.block_values;
  if (bytes.size() % dtype.block_bytes != 0 || n_blocks != expected_blocks) {
    throw InputError(message("[dequantize] ", n_values, " values of ", dtype.name, ": expected ", expected_blocks,
                             " blocks of ", dtype.block_bytes, " bytes, got ", bytes.size(), " bytes"));
  }

  py::array_t<float> values(static_cast<py::ssize_t>(n_values));
  float* out = values.mutable_data();
  const rwkvnative::Released released;
  const std::byte* source = bytes.data();
  std::unique_ptr<std::byte[]> aligned;
  if (reinterpret_cast<std::uintptr_t>(source) % alignof(float) != 0) {  // a slice at an odd address
    aligned = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
    std::memcpy(aligned.get(), source, bytes.size());
    source = aligned.get();
  }
  dtype.dequantize(source, out, static_cast<std::size_t>(n_values));
  return values;
}

}  // namespace

void bind_quant(py::module_& m) {
  m.def(
      "dtypes", &dtypes,
      "The supported tensor types: a list of dict(name, ggml_type, block_values, block_bytes), ascending by ggml id.");
  m.def(
      "quantize", &quantize, py::arg("values"), py::arg("ggml_type"), py::arg("importance") = py::none(),
      py::arg("n_threads") = 0, py::arg("first_row") = 0,
      "Quantizes float32 [rows, n] to the blocks of a type, row after row, as bytes.\n\n"
      "importance: float32 [n] weights of the squared error per column, or None. n_threads: 0 means all.\n"
      "first_row: what messages call the first row.\n"
      "Raises InputError for an unknown type, a row that is not whole blocks, and values not finite or out of range.");
  m.def("dequantize", &dequantize, py::arg("blocks"), py::arg("ggml_type"), py::arg("n_values"),
        "The float32 [n_values] that a contiguous buffer of blocks stands for.\n\n"
        "Raises InputError for an unknown type or a buffer whose size does not match n_values.");
}
