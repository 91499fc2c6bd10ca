// Work without the GIL, and the end of Python.
//
// Once the interpreter is finalizing, a thread that asks for the GIL is ended where it stands (before Python 3.14): unwound through
// C++ that has no exception, which ends the process. So atexit asks the threads that are in here to come out, and waits for them.
#pragma once

#include <pybind11/pybind11.h>

namespace rwkvnative {

// Whether Python is about to end, and not on this thread: whoever runs for long should stop.
bool is_leaving();
// Raises SystemExit then, which ends a thread without a word.
void leave_if_asked();

// As py::gil_scoped_release.
class Released {
 public:
  Released() = default;

 private:
  struct Count {
    Count();
    ~Count();
    Count(const Count&) = delete;
    Count& operator=(const Count&) = delete;
  };
  Count count_;  // until the GIL is back
  pybind11::gil_scoped_release release_;
};

}  // namespace rwkvnative
