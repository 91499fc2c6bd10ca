// Options, faults, counting of objects.
#include "soft.h"

#import <objc/runtime.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>

void soft_stop(const char* text, ...) {
  va_list values;
  va_start(values, text);
  fputs("software Metal device: ", stderr);
  vfprintf(stderr, text, values);
  fputc('\n', stderr);
  va_end(values);
  abort();
}

NSError* soft_error(NSString* domain, NSInteger code, const std::string& text, NSArray* encoders) {
  NSString* description = [NSString stringWithUTF8String:text.c_str()];
  if (encoders) {
    return [NSError errorWithDomain:domain
                               code:code
                           userInfo:[NSDictionary dictionaryWithObjectsAndKeys:description, NSLocalizedDescriptionKey, encoders,
                                                                               MTLCommandBufferEncoderInfoErrorKey, nil]];
  }
  return [NSError errorWithDomain:domain
                             code:code
                         userInfo:[NSDictionary dictionaryWithObject:description forKey:NSLocalizedDescriptionKey]];
}

// ---------------------------------------------------------------- options

namespace {

std::string variable(const char* name, const char* otherwise = "") {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

SoftOptions read_options() {
  SoftOptions o;
  o.check = variable("SOFT_METAL_CHECK") == "1";
  o.seed = atoi(variable("SOFT_METAL_SEED").c_str());
  o.workers = atoi(variable("SOFT_METAL_WORKERS", "1").c_str());
  o.thread = variable("SOFT_METAL_TIMING") == "thread";
  o.device = variable("SOFT_METAL_DEVICE", "apple");
  o.sampling = variable("SOFT_METAL_SAMPLING", "stage");
  o.max_buffer = strtoull(variable("SOFT_METAL_MAX_BUFFER", "17179869184").c_str(), nullptr, 10);
  o.working_set = strtoull(variable("SOFT_METAL_WORKING_SET", "17179869184").c_str(), nullptr, 10);
  o.compiler = variable("SOFT_METAL_COMPILER");
  o.compiler_stamp = variable("SOFT_METAL_STAMP");
  o.cache = variable("SOFT_METAL_CACHE");
  o.dispatches = variable("SOFT_METAL_DISPATCHES");
  return o;
}

SoftFaults ordered_faults() {
  int command_buffer = 0, code = 0;
  if (const char* text = getenv("SOFT_METAL_FAIL")) sscanf(text, "%d:%d", &command_buffer, &code);
  return {.command_buffer = command_buffer, .command_buffer_code = code};
}

}  // namespace

SoftOptions& soft_options() {
  static auto* options = new SoftOptions(read_options());  // the report at exit reads them
  return *options;
}

SoftFaults& soft_faults() {
  static SoftFaults faults = ordered_faults();
  return faults;
}

void soft_metal_fail_command_buffer(int n, int code) {
  soft_faults().command_buffer_code = code;
  soft_faults().command_buffer = n;
}

void soft_metal_fail_allocation(int n) { soft_faults().allocation = n; }

int soft_metal_pending_allocation(void) { return soft_faults().allocation; }
void soft_metal_set_seed(int seed) { soft_options().seed = seed; }

// ---------------------------------------------------------------- objects

namespace {

struct Counts {
  std::mutex mutex;
  std::map<std::string, int> by_class;

  std::string report() {
    std::lock_guard lock(mutex);
    std::string text;
    for (const auto& [name, count] : by_class)
      if (count) text += name + ": " + std::to_string(count) + "\n";
    return text;
  }
};

Counts& counts() {
  static auto* counts = new Counts;  // objects may die after static ones
  return *counts;
}

// What ran: lines of SOFT_METAL_DISPATCHES.
struct Ran {
  std::mutex mutex;
  std::set<std::string> lines;
};

Ran& ran() {
  static auto* ran = new Ran;
  return *ran;
}

struct ReportAtExit {
  ~ReportAtExit() {
    if (!soft_options().dispatches.empty()) {
      // Whole or not at all: another process may be reading it.
      const std::string fresh = soft_options().dispatches + "." + std::to_string(getpid());
      {
        std::ofstream file(fresh);
        for (const std::string& line : ran().lines) file << line << '\n';
      }
      rename(fresh.c_str(), soft_options().dispatches.c_str());
    }
    if (getenv("SOFT_METAL_REPORT")) fprintf(stderr, "software Metal device: %d objects alive at exit\n%s", soft_metal_live_objects(), counts().report().c_str());
  }
} g_report;

}  // namespace

void soft_count(const char* name, int change) {
  std::lock_guard lock(counts().mutex);
  counts().by_class[name] += change;
}

void soft_ran(const char* label, const std::string& shape) {
  std::lock_guard lock(ran().mutex);
  ran().lines.insert(std::string(label) + '\t' + std::to_string(soft_options().seed) + '\t' + shape);
}

int soft_metal_live_objects() {
  std::lock_guard lock(counts().mutex);
  int sum = 0;
  for (const auto& [name, count] : counts().by_class) sum += count;
  return sum;
}

const char* soft_metal_live_report() {
  static std::string text;
  text = counts().report();
  return text.c_str();
}

@implementation SoftObject
- (id)init {
  if ((self = [super init])) soft_count(object_getClassName(self), 1);
  return self;
}
- (void)dealloc {
  soft_count(object_getClassName(self), -1);
  [label_ release];
  [super dealloc];
}
- (NSString*)label {
  return label_;
}
- (void)setLabel:(NSString*)label {
  [label_ autorelease];
  label_ = [label copy];
}
@end
