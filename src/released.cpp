#include "released.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace py = pybind11;

namespace rwkvnative {
namespace {

constexpr std::chrono::seconds kPatience{10};  // then whoever is still at work ends the process its own way

std::atomic<int> running{0};
std::atomic<std::thread::id> leaver{};  // the thread that ends Python; none before

void leave() {
  leaver = std::this_thread::get_id();
  const py::gil_scoped_release release;
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (running != 0 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace

bool is_leaving() {
  const std::thread::id id = leaver;
  return id != std::thread::id() && id != std::this_thread::get_id();
}

void leave_if_asked() {
  if (!is_leaving()) return;
  PyErr_SetNone(PyExc_SystemExit);
  throw py::error_already_set();
}

Released::Count::Count() { ++running; }
Released::Count::~Count() { --running; }

}  // namespace rwkvnative

void bind_leaving(py::module_&) { py::module_::import("atexit").attr("register")(py::cpp_function(&rwkvnative::leave)); }
