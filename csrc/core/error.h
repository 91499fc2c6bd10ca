// The exceptions that leave the core. Each message says what, where, expected and got.
// The bindings translate them to rwkvnative.errors (InputError, FileError, DeviceError).
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace rwkvnative {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Something the caller passed is wrong: a tensor's shape, a token id, an option.
struct InputError : Error {
  using Error::Error;
};

// A file cannot be read or written.
struct FileError : Error {
  using Error::Error;
};

// A device refused or failed: no adapter, out of memory, a lost device, a kernel that does not compile.
struct DeviceError : Error {
  using Error::Error;
};

// Joins its arguments into one message: message("expected ", 3, ", got ", n).
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace rwkvnative
