// core/workers.h: jobs on threads that come and go. tests/test_native.py builds and runs it: `workers_test`, and on Linux
// `workers_test scarce`, where the system has no thread to give. Prints "N checks passed", or what is wrong; exit status 1.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/resource.h>
#include <unistd.h>
#endif

#include "core/workers.h"

using rwkvnative::Workers;

namespace {

int passed = 0, failed = 0;

void check(const char* what, bool holds) {
  if (!holds) std::printf("FAILED %s\n", what);
  ++(holds ? passed : failed);
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

void all_are_done_and_no_more_than_so_many_at_once() {
  Workers workers(3);
  std::atomic<int> done = 0, now = 0, most = 0;
  for (int round = 1; round <= 3; ++round) {
    for (int i = 0; i < 40; ++i) {
      workers.add([&] {
        const int running = ++now;
        for (int seen = most; running > seen && !most.compare_exchange_weak(seen, running);) {}
        sleep_ms(1);
        --now;
        ++done;
      });
    }
    workers.wait();
    check("wait() is over when all jobs are", done == 40 * round && now == 0);
  }
  check("no more threads than allowed", most <= 3);
}

void one_thread_keeps_the_order() {
  Workers workers(1);
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) workers.add([&order, i] { order.push_back(i); });
  workers.wait();
  bool sorted = order.size() == 100;
  for (int i = 0; sorted && i < 100; ++i) sorted = order[static_cast<size_t>(i)] == i;
  check("one thread does them in order", sorted);
}

// Each waits for the others, which a single thread would never see.
void jobs_run_at_the_same_time() {
  Workers workers(4);
  std::mutex mutex;
  std::condition_variable changed;
  int here = 0, met = 0;
  for (int i = 0; i < 4; ++i) {
    workers.add([&] {
      std::unique_lock lock(mutex);
      ++here;
      changed.notify_all();
      met += changed.wait_for(lock, std::chrono::seconds(30), [&] { return here == 4; });
    });
  }
  workers.wait();
  check("four jobs run at the same time", met == 4);
}

void its_end_waits() {
  std::atomic<int> done = 0;
  {
    Workers workers(2);
    for (int i = 0; i < 6; ++i) {
      workers.add([&] {
        sleep_ms(5);
        ++done;
      });
    }
  }
  check("the end of Workers waits for jobs", done == 6);
  Workers idle(2);
  idle.wait();
  check("nothing to wait for", true);
}

#ifdef __linux__
void without_threads() {
  long pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  check("/proc/self/statm", file != nullptr && std::fscanf(file, "%ld", &pages) == 1);
  if (file != nullptr) std::fclose(file);
  const rlim_t room = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (2 << 20);  // a stack is 8 MiB
  const rlimit limit{room, room};
  check("setrlimit", setrlimit(RLIMIT_AS, &limit) == 0);
  Workers workers(4);
  std::vector<std::thread::id> by;
  for (int i = 0; i < 5; ++i) workers.add([&] { by.push_back(std::this_thread::get_id()); });
  workers.wait();
  bool here = by.size() == 5;
  for (const std::thread::id id : by) here &= id == std::this_thread::get_id();
  check("without threads the caller does them", here);
}
#endif

}  // namespace

int main(int argc, char** argv) {
#ifdef __linux__
  if (argc > 1 && std::strcmp(argv[1], "scarce") == 0) {
    without_threads();
    argc = 0;
  }
#endif
  if (argc == 1) {
    all_are_done_and_no_more_than_so_many_at_once();
    one_thread_keeps_the_order();
    jobs_run_at_the_same_time();
    its_end_waits();
  }
  if (failed == 0) std::printf("%d checks passed\n", passed);
  return failed == 0 ? 0 : 1;
}
