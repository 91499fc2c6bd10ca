#include "core/model_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "core/error.h"

#ifdef _WIN32
#include <sys/stat.h>
#include <sys/types.h>
#else
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace rwkvnative {

#ifndef _WIN32
namespace {

uintptr_t page_bytes() {
  static const auto bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// ---- lost pages
// The handler reads this table without a lock: a watch is on while begin != 0.
struct Watch {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> lost{false};
};
constexpr size_t kMostWatches = 256;
std::array<Watch, kMostWatches> watches;
std::mutex install_mutex;  // guards taking and freeing watches, and the two below
size_t n_watches = 0;
struct sigaction previous_action;

// Puts a page of zeros where the file has none any more, and lets the read go on. Any other SIGBUS is whoever's it was.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Watch& watch : watches) {
    const uintptr_t begin = watch.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= watch.end.load(std::memory_order_acquire)) continue;
    const uintptr_t page = page_bytes();
    watch.lost.store(true);
    const int saved = errno;
    void* const at = reinterpret_cast<void*>(address / page * page);
    const bool patched = mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
    errno = saved;
    if (patched) return;
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
    sigaction(signal, &previous_action, nullptr);  // the read is tried again, and ends the process
  } else {
    previous_action.sa_handler(signal);
  }
}

size_t begin_watch(std::span<const std::byte> mapped) {
  const std::scoped_lock lock(install_mutex);
  for (size_t i = 0; i < watches.size(); ++i) {
    Watch& watch = watches[i];
    if (watch.begin.load() != 0) continue;
    if (n_watches++ == 0) {
      page_bytes();
      struct sigaction action {};
      action.sa_sigaction = on_bus_error;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      sigemptyset(&action.sa_mask);
      sigaction(SIGBUS, &action, &previous_action);
    }
    const auto begin = reinterpret_cast<uintptr_t>(mapped.data());
    watch.lost.store(false);
    watch.end.store((begin + mapped.size() + page_bytes() - 1) / page_bytes() * page_bytes());
    watch.begin.store(begin, std::memory_order_release);
    return i;
  }
  throw FileError(message("[model] more than ", kMostWatches, " models are open at once"));
}

void end_watch(size_t index) {
  const std::scoped_lock lock(install_mutex);
  watches[index].begin.store(0);
  struct sigaction current {};
  if (--n_watches != 0 || sigaction(SIGBUS, nullptr, &current) != 0) return;
  // Somebody who came later goes on calling ours, which then only passes signals on.
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) sigaction(SIGBUS, &previous_action, nullptr);
}

}  // namespace

ModelFile::ModelFile(const std::string& path, std::span<const std::byte> mapped) : path_(path), mapped_(mapped) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw FileError(message("[model] ", path, ": cannot be opened: ", std::strerror(errno)));
  try {
    at_open_ = facts();
    if (at_open_.bytes != mapped.size())
      throw FileError(message("[model] ", path, ": expected ", mapped.size(), " bytes, got ", at_open_.bytes,
                              ": it changed while it was opened"));
    watch_ = begin_watch(mapped);
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

ModelFile::~ModelFile() {
  end_watch(watch_);
  close(descriptor_);
}

ModelFile::Facts ModelFile::facts() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0)
    throw FileError(message("[model] ", path_, ": cannot be read any more: ", std::strerror(errno)));
#ifdef __APPLE__
  const timespec changed = status.st_mtimespec;
#else
  const timespec changed = status.st_mtim;
#endif
  return {static_cast<uint64_t>(status.st_size), static_cast<int64_t>(changed.tv_sec), static_cast<int64_t>(changed.tv_nsec)};
}

void ModelFile::check() const {
  const Facts now = facts();
  if (now.bytes != at_open_.bytes)
    throw FileError(message("[model] ", path_, ": expected ", at_open_.bytes, " bytes, got ", now.bytes,
                            ": the file was changed while the model was in use; load it again"));
  if (now != at_open_)
    throw FileError(message("[model] ", path_, ": the file was written to while the model was in use; load it again"));
  if (watches[watch_].lost.load())
    throw FileError(message("[model] ", path_, ": a part of the file could not be read (truncated, or a read error); load it again"));
}

void ModelFile::will_need(std::span<const std::byte> range) const {
  const uintptr_t page = page_bytes();
  const uintptr_t begin = reinterpret_cast<uintptr_t>(range.data()) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(range.data()) + range.size();
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

void ModelFile::fetch(std::span<const std::byte> range) const {
  for (size_t at = 0; at < range.size(); at += page_bytes()) static_cast<void>(*static_cast<const volatile std::byte*>(&range[at]));
  if (!range.empty()) static_cast<void>(*static_cast<const volatile std::byte*>(&range.back()));
}

void ModelFile::dont_need(std::span<const std::byte> range) const {
  const uintptr_t page = page_bytes();
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(range.data()) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(range.data()) + range.size()) / page * page;
  if (begin >= end) return;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
#ifdef POSIX_FADV_DONTNEED
  // Out of the page cache too, so that what stays is not pushed out by what passes through.
  posix_fadvise(descriptor_, static_cast<off_t>(begin - reinterpret_cast<uintptr_t>(mapped_.data())),
                static_cast<off_t>(end - begin), POSIX_FADV_DONTNEED);
#endif
}

#else  // Windows does not let a mapped file be truncated.

ModelFile::ModelFile(const std::string& path, std::span<const std::byte> mapped) : path_(path), mapped_(mapped) {
  at_open_ = facts();
  if (at_open_.bytes != mapped.size())
    throw FileError(message("[model] ", path, ": expected ", mapped.size(), " bytes, got ", at_open_.bytes,
                            ": it changed while it was opened"));
}

ModelFile::~ModelFile() = default;

ModelFile::Facts ModelFile::facts() const {
  struct _stat64 status {};
  if (_stat64(path_.c_str(), &status) != 0)
    throw FileError(message("[model] ", path_, ": cannot be read any more: ", std::strerror(errno)));
  return {static_cast<uint64_t>(status.st_size), static_cast<int64_t>(status.st_mtime), 0};
}

void ModelFile::check() const {
  if (facts() != at_open_)
    throw FileError(message("[model] ", path_, ": the file was changed while the model was in use; load it again"));
}

void ModelFile::will_need(std::span<const std::byte>) const {}
void ModelFile::fetch(std::span<const std::byte>) const {}
void ModelFile::dont_need(std::span<const std::byte>) const {}

#endif

}  // namespace rwkvnative
