// The exceptions that leave the core. Each message says what, where, expected and got.
// The bindings translate them to rwkvnative.errors (InputError, FileError, DeviceError).
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

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

// The device, or the budget given for it, has no room for an allocation. Giving something back and trying again may help.
struct OutOfDeviceMemory : DeviceError {
  using DeviceError::DeviceError;
};

namespace detail {

inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, char character) { out += character; }

template <class Number>
  requires std::is_arithmetic_v<Number>
void append(std::string& out, Number number) {
  if constexpr (std::is_integral_v<Number>) {
    out += std::to_string(number);
  } else {
    char text[32];
    std::snprintf(text, sizeof text, "%g", static_cast<double>(number));
    out += text;
  }
}

}  // namespace detail

// Joins its arguments into one message: message("expected ", 3, ", got ", n). Without streams: their locales go wrong in a
// process that holds two copies of the C++ library, as Python with extension modules may.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

}  // namespace rwkvnative
