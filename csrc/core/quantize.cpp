#include "core/quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"

namespace rwkvnative {
namespace {

/// Rows a thread takes at a time are chosen so that a piece of work is at least this many values.
constexpr std::size_t kValuesPerTask = 1 << 16;

/// The largest magnitude a type is asked to hold. Block types keep their scale in binary16; its range covers any real
/// weight.
float largest_magnitude(DType type) {
  switch (type) {
    case DType::F32:
      return std::numeric_limits<float>::max();
    case DType::BF16:
      return 0x1.fep127f;
    default:
      return 65504.0f;
  }
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw InputError(message("[quantize] ", parts...));
}

/// Threads that are joined when the scope ends, by an exception too. (std::jthread is missing from some libc++.)
struct JoiningThreads {
  std::vector<std::thread> threads;
  ~JoiningThreads() {
    for (std::thread& thread : threads) thread.join();
  }
};

/// Column of the first value that is not finite or larger than `limit`, or n_values.
std::size_t find_bad_value(const float* row, std::size_t n_values, float limit) {
  for (std::size_t i = 0; i < n_values; ++i) {
    if (!(std::fabs(row[i]) <= limit)) return i;  // also true of NaN
  }
  return n_values;
}

}  // namespace

void quantize_rows(DType type, const float* in, std::size_t n_rows, std::size_t n_values, void* out,
                   const float* importance, unsigned n_threads, std::size_t first_row) {
  const DTypeTraits& dtype = traits(type);
  if (n_values % dtype.block_values != 0) {
    fail("row of ", n_values, " values: expected a multiple of ", dtype.block_values, " for ", dtype.name);
  }
  if (n_rows == 0 || n_values == 0) return;
  if (importance != nullptr) {
    for (std::size_t i = 0; i < n_values; ++i) {
      if (!(importance[i] >= 0.0f) || std::isinf(importance[i])) {
        fail("importance of column ", i, ": expected a finite weight >= 0, got ", importance[i]);
      }
    }
  }

  const float limit = largest_magnitude(type);
  const std::size_t row_bytes = dtype.bytes(n_values);
  const std::size_t rows_per_task = kValuesPerTask / n_values + 1;
  const std::size_t n_tasks = (n_rows + rows_per_task - 1) / rows_per_task;
  std::atomic<std::size_t> next_task{0};
  std::atomic<std::size_t> bad_row{
      n_rows};  // the lowest offending row, so that the message is the same for any thread count

  const auto work = [&] {
    for (std::size_t task; (task = next_task.fetch_add(1)) < n_tasks;) {
      const std::size_t end = std::min(n_rows, (task + 1) * rows_per_task);
      for (std::size_t row = task * rows_per_task; row < end && row < bad_row.load(std::memory_order_relaxed); ++row) {
        const float* values = in + row * n_values;
        if (find_bad_value(values, n_values, limit) != n_values) {
          std::size_t lowest = bad_row.load();
          while (row < lowest && !bad_row.compare_exchange_weak(lowest, row)) {
          }
          break;
        }
        dtype.quantize(values, static_cast<std::uint8_t*>(out) + row * row_bytes, n_values, importance);
      }
    }
  };

  if (n_threads == 0) n_threads = std::max(1u, std::thread::hardware_concurrency());
  {
    JoiningThreads helpers;
    const std::size_t n_helpers = std::min<std::size_t>(n_threads, n_tasks) - 1;
    try {
      for (std::size_t i = 0; i < n_helpers; ++i) helpers.threads.emplace_back(work);
    } catch (const std::system_error&) {  // the system has no more: fewer will do
    }
    work();
  }

  if (const std::size_t row = bad_row.load(); row != n_rows) {
    const std::size_t column = find_bad_value(in + row * n_values, n_values, limit);
    const float value = in[row * n_values + column];
    if (!std::isfinite(value))
      fail("row ", first_row + row, ", column ", column, ": expected a finite value, got ", value);
    fail("row ", first_row + row, ", column ", column, ": expected a magnitude of at most ", limit, " for ", dtype.name,
         ", got ", value);
  }
}

}  // namespace rwkvnative
