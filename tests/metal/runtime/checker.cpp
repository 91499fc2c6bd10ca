#include "checker.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#include "msl_runtime.h"
#include "threadgroup.h"

namespace msl {

namespace {

// The last access of a kind to a byte: by which thread, and how many barriers it had passed.
struct Access {
  uint32_t number = 0;
  uint16_t threadgroup_epoch = 0, simdgroup_epoch = 0;
};

struct Byte {
  Access write, read;
};

// What is known of each byte of memory: pages of it, made when first touched. Check mode runs one worker.
class Shadow {
 public:
  Byte& at(uintptr_t address) {
    const uintptr_t page = address / kPage;
    Recent& recent = recent_[page % kRecent];
    if (recent.page != page) {
      auto& bytes = pages_[page];
      if (!bytes) bytes = std::make_unique<Byte[]>(kPage);
      recent = {page, bytes.get()};
    }
    return recent.bytes[address % kPage];
  }

  void forget(uintptr_t address, size_t size) {
    for (size_t i = 0; i < size; i++) {
      const auto page = pages_.find((address + i) / kPage);
      if (page == pages_.end())
        i += kPage - (address + i) % kPage - 1;
      else
        page->second[(address + i) % kPage] = {};
    }
  }

  void clear() { *this = Shadow(); }

 private:
  static constexpr size_t kPage = 1024, kRecent = 4;
  struct Recent {
    uintptr_t page = UINTPTR_MAX;
    Byte* bytes = nullptr;
  };
  std::unordered_map<uintptr_t, std::unique_ptr<Byte[]>> pages_;
  Recent recent_[kRecent];
};

Shadow g_shadow;
uint64_t g_next_access = 1;  // 0: never accessed

// "file.metal:12:3 < file.metal:40:5" for an address in a kernel: the line, and the lines it was inlined into.
std::string source_line(const void* return_address) {
  Dl_info library;
  if (!dladdr(return_address, &library)) return "?";
  const long offset = static_cast<const char*>(return_address) - static_cast<const char*>(library.dli_fbase) - 1;
  char command[600];
  snprintf(command, sizeof command, "llvm-symbolizer-19 --obj=%s -s -f=none 0x%lx 2>/dev/null", library.dli_fname, offset);
  std::string lines;
  if (FILE* output = popen(command, "r")) {
    char line[256];
    while (fgets(line, sizeof line, output)) {
      line[strcspn(line, "\n")] = 0;
      if (!line[0]) continue;
      if (!lines.empty()) lines += " < ";
      lines += line;
    }
    pclose(output);
  }
  return lines.empty() ? "?" : lines;
}

[[noreturn]] void report(const char* what, size_t size, const void* return_address, const std::string& more = "") {
  Threadgroup& t = *Threadgroup::current();
  t.fail(std::string(what) + " at " + source_line(return_address) + ": thread " + std::to_string(t.thread()) + ", " +
         std::to_string(size) + " bytes" + more);
}

class Check {
 public:
  Check(Threadgroup& t, Space space, uint64_t ordered) : t_(t), space_(space), ordered_before_(ordered), group_(t.group_access()) {}

  bool by_this_threadgroup(const Access& a) const { return a.number >= group_ && a.number < group_ + t_.size(); }

  // Whether it may still collide: it is not older than what this dispatch is ordered after.
  bool live(const Access& a) const { return a.number && a.number >= ordered_before_; }

  // Whether the access happened before what the current thread does now.
  bool ordered(const Access& a) const {
    if (a.number == group_ + t_.thread()) return true;
    if (!by_this_threadgroup(a)) return false;
    if (a.threadgroup_epoch < t_.epoch(space_)) return true;
    const unsigned simdgroup = static_cast<unsigned>(a.number - group_) / kLanes;
    return simdgroup == t_.simdgroup() && a.simdgroup_epoch < t_.simdgroup_epoch(space_);
  }

  Access now() const {
    return {static_cast<uint32_t>(group_ + t_.thread()), static_cast<uint16_t>(t_.epoch(space_)),
            static_cast<uint16_t>(t_.simdgroup_epoch(space_))};
  }

  std::string who(const char* did, const Access& a) const {
    const uint64_t first = t_.job().first_access;
    if (a.number < first) return std::string("; ") + did + " by an earlier dispatch of the same encoder, no barrier in between";
    return std::string("; last ") + did + " by thread " + std::to_string((a.number - first) % t_.size()) + " of threadgroup " +
           std::to_string((a.number - first) / t_.size()) + " without a barrier in between";
  }

 private:
  Threadgroup& t_;
  Space space_;
  uint64_t ordered_before_, group_;
};

void read_byte(const Check& check, Byte& byte, Space space, size_t size, const void* where) {
  const bool written = check.live(byte.write);
  if (space == threadgroup_space && !(written && check.by_this_threadgroup(byte.write)))
    report("read of uninitialised threadgroup memory", size, where);
  if (written && !check.ordered(byte.write)) report("data race (read after write)", size, where, check.who("written", byte.write));
  // One reader is remembered: another thread's of the same epoch rather than our own, for that one is harder to order.
  const Access now = check.now();
  const Access& old = byte.read;
  const bool keep = check.live(old) && old.number != now.number && old.threadgroup_epoch == now.threadgroup_epoch &&
                    old.simdgroup_epoch == now.simdgroup_epoch;
  if (!keep) byte.read = now;
}

void write_byte(const Check& check, Byte& byte, Space space, size_t size, const void* where) {
  // Threadgroup memory is the threadgroup's own: what another one left there is no matter.
  const auto collides = [&](const Access& a) {
    return check.live(a) && (space == device_space || check.by_this_threadgroup(a)) && !check.ordered(a);
  };
  if (collides(byte.write)) report("data race (write after write)", size, where, check.who("written", byte.write));
  if (collides(byte.read)) report("data race (write after read)", size, where, check.who("read", byte.read));
  byte.write = check.now();
}

// Finds out what memory it is; false if the access needs no further check.
bool locate(Threadgroup& t, uintptr_t address, size_t size, bool write, const void* where, Space& space, uint64_t& ordered) {
  if (t.owns(address)) return false;
  if (t.is_threadgroup_memory(address, size)) {
    space = threadgroup_space;
    ordered = t.job().first_access;
    return true;
  }
  const Job& job = t.job();
  for (int pass = 0; pass < 2; pass++)  // first the buffers that are bound for writing: another argument may be an alias
    for (int i = 0; i < job.kernel->n_bindings; i++) {
      const Binding& b = job.kernel->bindings[i];
      if (b.kind != buffer || (pass == 0) == (b.read_only != 0)) continue;
      const msl_range& range = job.args->buffers[b.index];
      const uintptr_t base = reinterpret_cast<uintptr_t>(range.data);
      if (address < base || address + size > base + range.size) continue;
      if (write && b.read_only) report("write through a read-only argument", size, where);
      space = device_space;
      ordered = range.ordered;
      return true;
    }
  if (!write && job.library->contains(address, size)) return false;  // a constant of the program
  report(write ? "out-of-bounds write" : "out-of-bounds read", size, where);
}

void access(const void* p, size_t size, bool write, const void* where) {
  Threadgroup* t = Threadgroup::current();
  if (!t || !t->on_a_thread()) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  Space space;
  uint64_t ordered;
  if (!locate(*t, address, size, write, where, space, ordered)) return;
  const Check check(*t, space, ordered);
  for (size_t i = 0; i < size; i++) {
    Byte& byte = g_shadow.at(address + i);
    if (write)
      write_byte(check, byte, space, size, where);
    else
      read_byte(check, byte, space, size, where);
  }
}

}  // namespace

uint64_t take_access_numbers(uint64_t n) {
  if (g_next_access + n > 0xfffffff0u) {  // they are kept in 32 bits
    g_shadow.clear();
    g_next_access = 1;
  }
  const uint64_t first = g_next_access;
  g_next_access += n;
  return first;
}

}  // namespace msl

uint64_t msl_mark() { return msl::g_next_access; }
void msl_forget(const void* data, size_t size) { msl::g_shadow.forget(reinterpret_cast<uintptr_t>(data), size); }

// ---------------------------------------------------------------- what the compiler calls

#define WHERE __builtin_return_address(0)

extern "C" {

// Atomics are ordered by themselves; they must lie inside of a buffer or threadgroup memory all the same.
void msl_atomic_access(const volatile void* address, unsigned size) {
  msl::Threadgroup* t = msl::Threadgroup::current();
  msl::Space space;
  uint64_t ordered;
  if (t->job().args->check) msl::locate(*t, reinterpret_cast<uintptr_t>(address), size, true, WHERE, space, ordered);
}

// -fsanitize=thread, without its runtime library.
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define TSAN_ACCESS(n)                                                                          \
  void __tsan_read##n(void* p) { msl::access(p, n, false, WHERE); }                             \
  void __tsan_write##n(void* p) { msl::access(p, n, true, WHERE); }                             \
  void __tsan_unaligned_read##n(void* p) { msl::access(p, n, false, WHERE); }                   \
  void __tsan_unaligned_write##n(void* p) { msl::access(p, n, true, WHERE); }                   \
  void __tsan_read_write##n(void* p) { msl::access(p, n, false, WHERE), msl::access(p, n, true, WHERE); } \
  void __tsan_unaligned_read_write##n(void* p) { msl::access(p, n, false, WHERE), msl::access(p, n, true, WHERE); }
TSAN_ACCESS(1)
TSAN_ACCESS(2)
TSAN_ACCESS(4)
TSAN_ACCESS(8)
TSAN_ACCESS(16)

void* __tsan_memcpy(void* to, const void* from, size_t n) {
  msl::access(from, n, false, WHERE);
  msl::access(to, n, true, WHERE);
  return memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n) {
  msl::access(from, n, false, WHERE);
  msl::access(to, n, true, WHERE);
  return memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n) {
  msl::access(to, n, true, WHERE);
  return memset(to, value, n);
}

// -fsanitize=alignment,array-bounds,..., without its runtime library: the first member of each handler's data is the place.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
static void undefined_behaviour(const char* what, const void* data) {
  const auto& place = *static_cast<const SourceLocation*>(data);
  msl::Threadgroup& t = *msl::Threadgroup::current();
  const char* file = strrchr(place.file, '/') ? strrchr(place.file, '/') + 1 : place.file;
  t.fail(std::string(what) + " at " + file + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + ": thread " +
         std::to_string(t.thread()));
}
#define UBSAN_HANDLER(name, what)                                           \
  void __ubsan_handle_##name(void* data) { undefined_behaviour(what, data); } \
  void __ubsan_handle_##name##_abort(void* data) { undefined_behaviour(what, data); }
UBSAN_HANDLER(type_mismatch_v1, "misaligned or null access")
UBSAN_HANDLER(out_of_bounds, "array index out of bounds")
UBSAN_HANDLER(shift_out_of_bounds, "shift out of range")
UBSAN_HANDLER(divrem_overflow, "division by zero")
UBSAN_HANDLER(float_cast_overflow, "float-to-integer overflow")
UBSAN_HANDLER(builtin_unreachable, "unreachable code")
UBSAN_HANDLER(missing_return, "missing return")
}
