// Host work that several threads share for a moment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace rwkvnative {

// Calls work(begin, end), which must not throw, for shares of `count` things on as many threads as `bytes` of work are worth. Where
// the system has no more threads to give, this one does what is left.
template <class Work>
void in_parallel(uint64_t count, uint64_t bytes, Work work) {
  const uint64_t n_threads = std::clamp<uint64_t>(bytes >> 20, 1, std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  const uint64_t share = (count + n_threads - 1) / n_threads;
  std::vector<std::thread> threads;
  threads.reserve(n_threads);
  uint64_t begin = std::min(count, share);  // the first share is this thread's
  try {
    for (; begin < count; begin += std::min(count - begin, share)) threads.emplace_back(work, begin, std::min(count, begin + share));
  } catch (const std::system_error&) {
  }
  work(0, std::min(count, share));
  if (begin < count) work(begin, count);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace rwkvnative
