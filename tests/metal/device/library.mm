// From source to functions: compile options, function constants, libraries.
#include "soft.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

// Classes that a program allocates itself are declared by the generated header without room for anything: the instances
// are of a subclass.

@interface SoftCompileOptions : MTLCompileOptions {
 @public
  MTLLanguageVersion version_;
  BOOL fast_math_;
  NSDictionary* macros_;
}
@end

@implementation MTLCompileOptions
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLCompileOptions class] ? [SoftCompileOptions allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftCompileOptions
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLCompileOptions", 1);
    fast_math_ = YES;
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLCompileOptions", -1);
  [macros_ release];
  [super dealloc];
}
- (void)setLanguageVersion:(MTLLanguageVersion)version {
  version_ = version;
}
- (MTLLanguageVersion)languageVersion {
  return version_;
}
- (void)setFastMathEnabled:(BOOL)enabled {
  fast_math_ = enabled;
}
- (BOOL)fastMathEnabled {
  return fast_math_;
}
- (void)setMathMode:(MTLMathMode)mode {
  fast_math_ = mode == MTLMathModeFast;
}
- (void)setMathFloatingPointFunctions:(MTLMathFloatingPointFunctions)functions {
  (void)functions;
}
- (void)setPreprocessorMacros:(NSDictionary*)macros {
  [macros_ autorelease];
  macros_ = [macros copy];
}
- (NSDictionary*)preprocessorMacros {
  return macros_;
}
@end

// ---------------------------------------------------------------- function constants

@interface SoftConstants : MTLFunctionConstantValues {
 @public
  std::map<int, std::pair<MTLDataType, std::string>>* values_;
}
@end

@implementation MTLFunctionConstantValues
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLFunctionConstantValues class] ? [SoftConstants allocWithZone:zone] : [super allocWithZone:zone];
}
@end

namespace {

struct Type {
  const char* name;  // in MSL
  MTLDataType type;
  size_t size;
};
constexpr Type kTypes[] = {
    {"bool", MTLDataTypeBool, 1},     {"char", MTLDataTypeChar, 1}, {"uchar", MTLDataTypeUChar, 1}, {"short", MTLDataTypeShort, 2},
    {"ushort", MTLDataTypeUShort, 2}, {"half", MTLDataTypeHalf, 2}, {"int", MTLDataTypeInt, 4},     {"uint", MTLDataTypeUInt, 4},
    {"int32_t", MTLDataTypeInt, 4},   {"uint32_t", MTLDataTypeUInt, 4}, {"float", MTLDataTypeFloat, 4},
};

const Type* type_of(MTLDataType type) {
  for (const Type& t : kTypes)
    if (t.type == type) return &t;
  return nullptr;
}

bool same_type(const char* declared, MTLDataType given) {
  for (const Type& t : kTypes)
    if (!strcmp(t.name, declared)) return t.type == given;
  return false;
}

}  // namespace

@implementation SoftConstants
- (id)init {
  if ((self = [super init])) {
    soft_count("MTLFunctionConstantValues", 1);
    values_ = new std::map<int, std::pair<MTLDataType, std::string>>;
  }
  return self;
}
- (void)dealloc {
  soft_count("MTLFunctionConstantValues", -1);
  delete values_;
  [super dealloc];
}
- (void)reset {
  values_->clear();
}
- (void)setConstantValue:(const void*)value type:(MTLDataType)type atIndex:(NSUInteger)index {
  const Type* t = type_of(type);
  SOFT_CHECK(t, "setConstantValue: of a type that is not emulated (%ld)", (long)type);
  (*values_)[static_cast<int>(index)] = {type, std::string(static_cast<const char*>(value), t->size)};
}
- (void)setConstantValues:(const void*)values type:(MTLDataType)type withRange:(NSRange)range {
  const Type* t = type_of(type);
  SOFT_CHECK(t, "setConstantValues: of a type that is not emulated (%ld)", (long)type);
  for (NSUInteger i = 0; i < range.length; i++)
    [self setConstantValue:static_cast<const char*>(values) + i * t->size type:type atIndex:range.location + i];
}
@end

// ---------------------------------------------------------------- libraries and functions

SoftKernels::~SoftKernels() {
  if (library) msl_close_library(library);
}

@implementation SoftFunction
- (void)dealloc {
  kernels_.reset();
  [super dealloc];
}
- (NSString*)name {
  return [NSString stringWithUTF8String:msl_kernel_name(kernel_)];
}
- (MTLFunctionType)functionType {
  return MTLFunctionTypeKernel;
}
- (std::string)key {
  std::ostringstream key;
  key << std::hex << kernels_->key << ' ' << msl_kernel_name(kernel_);
  for (const auto& [index, value] : constants_) {
    key << ' ' << index << '=';
    for (unsigned char c : value) key << static_cast<int>(c) << '.';
  }
  return key.str();
}
@end

@implementation SoftLibrary
- (NSArray*)functionNames {
  NSMutableArray* names = [NSMutableArray array];
  for (int i = 0; i < msl_kernel_count(kernels_->library); i++)
    [names addObject:[NSString stringWithUTF8String:msl_kernel_name(msl_kernel_at(kernels_->library, i))]];
  return names;
}
- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  return [self newFunctionWithName:name constantValues:nil error:nullptr];
}
- (id<MTLFunction>)newFunctionWithName:(NSString*)name constantValues:(MTLFunctionConstantValues*)values error:(NSError**)error {
  const auto fail = [&](NSInteger code, const std::string& text) -> id<MTLFunction> {
    if (error) *error = soft_error(@"MTLLibraryErrorDomain", code, text);
    return nil;
  };
  const msl_kernel* kernel = msl_find_kernel(kernels_->library, [name UTF8String]);
  if (!kernel) return fail(MTLLibraryErrorFunctionNotFound, std::string("no function is called ") + [name UTF8String]);
  SoftFunction* function = [[SoftFunction alloc] init];
  function->kernels_ = kernels_;
  function->kernel_ = kernel;
  std::string problem;
  for (int i = 0; i < msl_constant_count(kernels_->library) && problem.empty(); i++) {
    int index;
    const char *constant, *type;
    size_t size;
    msl_constant_at(kernels_->library, i, &index, &constant, &type, &size);
    const auto* given = values ? static_cast<SoftConstants*>(values)->values_ : nullptr;
    const std::string what = std::string("function constant ") + constant + " (" + std::to_string(index) + ")";
    if (!given || !given->count(index))
      problem = what + " has no value";
    else if (!same_type(type, given->at(index).first))
      problem = what + " is declared " + type + ", the value has MTLDataType " + std::to_string(given->at(index).first);
    else
      function->constants_[index] = given->at(index).second;
  }
  if (problem.empty()) return function;
  [function release];
  return fail(MTLLibraryErrorCompileFailure, problem);
}
@end

// ---------------------------------------------------------------- the compiler

namespace {

uint64_t hash(const std::string& text) {  // FNV-1a
  uint64_t h = 14695981039346656037u;
  for (unsigned char c : text) h = (h ^ c) * 1099511628211u;
  return h;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Runs tests/metal/msl on the source twice: with address spaces, then for a library, whose path it prints.
std::string run_compiler(const std::string& source, std::string& problem) {
  char folder[] = "/tmp/soft_metal_XXXXXX";
  SOFT_CHECK(mkdtemp(folder), "mkdtemp");
  const std::string in = std::string(folder) + "/source.metal", out = std::string(folder) + "/out", log = std::string(folder) + "/log";
  std::ofstream(in) << source;
  const std::string base = soft_options().compiler + " --name program_source " + in;
  int status = system((base + " --address-spaces > " + out + " 2> " + log).c_str());
  if (!status) status = system((base + (soft_options().check ? " --check" : "") + " > " + out + " 2> " + log).c_str());
  std::string path = read_file(out);
  if (status) problem = read_file(log);
  for (const std::string& file : {in, out, log}) unlink(file.c_str());
  rmdir(folder);
  while (!path.empty() && path.back() == '\n') path.pop_back();
  return path;
}

std::string library_path(const std::string& source, std::string& problem) {
  if (soft_options().compiler_stamp.empty()) return run_compiler(source, problem);
  char name[64];
  snprintf(name, sizeof name, "/%016lx", hash(source + soft_options().compiler_stamp + (soft_options().check ? "check" : "")));
  const std::string remembered = soft_options().cache + name;
  std::string path = read_file(remembered);
  if (!path.empty() && access(path.c_str(), R_OK) == 0) return path;
  path = run_compiler(source, problem);
  if (problem.empty()) {
    const std::string fresh = remembered + "." + std::to_string(getpid());
    std::ofstream(fresh) << path;
    rename(fresh.c_str(), remembered.c_str());
  }
  return path;
}

}  // namespace

static soft_metal_compile g_compile = nullptr;

void soft_metal_set_compiler(soft_metal_compile compile) { g_compile = compile; }

static std::string path_of(const std::string& source, std::string& problem) {
  if (g_compile) {
    std::string out(20000, '\0');
    const int made = g_compile(source.c_str(), out.data(), out.size());
    out.resize(strlen(out.c_str()));
    if (made == 0) problem = out;
    if (made >= 0) return out;
  }
  return library_path(source, problem);
}

id<MTLLibrary> soft_compile(NSString* source, MTLCompileOptions* options, NSError** error) {
  SOFT_CHECK(source, "newLibraryWithSource: nil");
  SOFT_CHECK(!soft_options().compiler.empty(), "SOFT_METAL_COMPILER is not set");
  std::string text = [source UTF8String];
  if (auto* o = static_cast<SoftCompileOptions*>(options)) {
    SOFT_CHECK(o->version_ <= MTLLanguageVersion3_1, "a language version beyond 3.1 is not emulated");
    std::string macros;
    NSEnumerator* names = [o->macros_ keyEnumerator];
    for (NSString* name; (name = [names nextObject]);)
      macros += std::string("#define ") + [name UTF8String] + " " + [[[o->macros_ objectForKey:name] description] UTF8String] + "\n";
    if (!macros.empty()) text = macros + "#line 1 \"program_source\"\n" + text;
  }
  std::string problem;
  const std::string path = path_of(text, problem);
  auto kernels = std::make_shared<SoftKernels>();
  kernels->key = hash(text);
  if (problem.empty()) {
    char message[1000];
    kernels->library = msl_open_library(path.c_str(), message, sizeof message);
    if (!kernels->library) problem = message;
  }
  if (!problem.empty()) {
    if (error) *error = soft_error(@"MTLLibraryErrorDomain", MTLLibraryErrorCompileFailure, problem);
    return nil;
  }
  SoftLibrary* library = [[SoftLibrary alloc] init];
  library->kernels_ = kernels;
  return library;
}

namespace {
int g_loaded = 0;
}  // namespace

int soft_metal_loaded_libraries(void) { return g_loaded; }

id<MTLLibrary> soft_library_at(NSURL* url, NSError** error) {
  SOFT_CHECK(url, "newLibraryWithURL: nil");
  static const std::string kMagic = "software metallib\n";
  const std::string text = read_file([[url path] UTF8String]);
  if (text.compare(0, kMagic.size(), kMagic) != 0) {
    if (error) *error = soft_error(@"MTLLibraryErrorDomain", 1, std::string("no metallib at ") + [[url path] UTF8String]);
    return nil;
  }
  id<MTLLibrary> library = soft_compile([NSString stringWithUTF8String:text.c_str() + kMagic.size()], nil, error);
  if (library) g_loaded++;
  return library;
}
