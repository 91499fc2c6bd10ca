// What this processor can do at best with these threads and kernels.
#pragma once

#include "core/profile.h"
#include "cpu/kernels.h"
#include "cpu/thread_pool.h"

namespace rwkvnative::cpu {

// read: all threads sum a buffer larger than the caches. dispatch: the pool's barrier. int8, f32: the matrix-matrix kernels
// on data that stays in a core's cache.
Ceilings measure_ceilings(ThreadPool& pool, const Kernels& kernels);

}  // namespace rwkvnative::cpu
