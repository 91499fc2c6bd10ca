#include "core/process.h"

#include <atomic>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace rwkvnative {
namespace {

std::atomic<uint32_t> count{0};

}  // namespace

uint32_t forks() {
#ifndef _WIN32
  static const int watched = pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(watched);
#endif
  return count.load(std::memory_order_relaxed);
}

}  // namespace rwkvnative
