#include "core/backend.h"

#include "core/error.h"

namespace rwkvnative {

OpTimes Program::profile(std::span<const Sequence>) { throw DeviceError("this backend cannot time its ops"); }

Ceilings Backend::measure_ceilings() { return {}; }

void Backend::set_tuning(const std::string& text) {
  if (!text.empty()) throw InputError(message("[", info().backend, "] this backend has nothing to tune, got \"", text, "\""));
}

}  // namespace rwkvnative
