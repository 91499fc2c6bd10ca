// The extension module rwkvnative._core: conversions, checks, and the GIL. What it does is in csrc/.
#include <pybind11/pybind11.h>

#include "core/error.h"
#include "core/engine.h"

namespace py = pybind11;

void bind_quant(py::module_& m);
void bind_tokenizer(py::module_& m);
void bind_engine(py::module_& m);
void bind_ops(py::module_& m);
void bind_webgpu(py::module_& m);
void bind_leaving(py::module_& m);

namespace {

// Raises the Python class of that name from rwkvnative.errors.
void raise(const char* name, const char* what) {
  PyErr_Clear();  // a signal's, whose call failed for another reason: importing does not go on under it
  const py::object type = py::module_::import("rwkvnative.errors").attr(name);
  PyErr_SetString(type.ptr(), what);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of rwkvnative.";
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const rwkvnative::InputError& e) {
      raise("InputError", e.what());
    } catch (const rwkvnative::FileError& e) {
      raise("FileError", e.what());
    } catch (const rwkvnative::DeviceError& e) {
      raise("DeviceError", e.what());
    }
  });
  bind_quant(m);
  bind_tokenizer(m);
  bind_engine(m);
  bind_ops(m);
  bind_webgpu(m);
  bind_leaving(m);
}
