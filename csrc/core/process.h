// fork(): a child has none of its parent's threads, and no use of its parent's devices.
#pragma once

#include <cstdint>

namespace rwkvnative {

// How often fork() has led from the process that first asked to this one. Something that has threads or a device keeps the number
// it was made with: under another one, whoever waits for it waits forever.
uint32_t forks();

}  // namespace rwkvnative
