#include "metal/pipelines.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "core/error.h"

namespace rwkvnative::metal {
namespace {

// The compiler's message names lines as "program_source:LINE:COLUMN: error: ..."; with the text of the first one.
std::string with_source_line(const std::string& error, std::string_view source) {
  constexpr std::string_view kPrefix = "program_source:";
  const size_t at = error.find(kPrefix);
  if (at == std::string::npos) return error;
  unsigned long line = std::strtoul(error.c_str() + at + kPrefix.size(), nullptr, 10);
  size_t begin = 0;
  for (; line > 1 && begin != std::string_view::npos; --line) {
    begin = source.find('\n', begin);
    if (begin != std::string_view::npos) ++begin;
  }
  if (begin == std::string_view::npos) return error;
  return message(error, " [", source.substr(begin, source.find('\n', begin) - begin), "]");
}

// The archive of an earlier process where it fits this device and system, else an empty one.
Owned<id<MTLBinaryArchive>> open_archive(id<MTLDevice> device, const std::string& path) {
  @autoreleasepool {
    const Owned<MTLBinaryArchiveDescriptor*> descriptor([[MTLBinaryArchiveDescriptor alloc] init]);
    std::error_code none;
    if (std::filesystem::exists(path, none)) {
      [descriptor.get() setUrl:[NSURL fileURLWithPath:ns_string(path)]];
      Owned<id<MTLBinaryArchive>> archive([device newBinaryArchiveWithDescriptor:descriptor.get() error:nullptr]);
      if (archive) return archive;
      [descriptor.get() setUrl:nil];
    }
    return Owned<id<MTLBinaryArchive>>([device newBinaryArchiveWithDescriptor:descriptor.get() error:nullptr]);
  }
}

// FNV-1a.
uint64_t hash(std::string_view text, uint64_t value = 0xcbf29ce484222325u) {
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

std::string file_text(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return {};
  char text[64];
  const size_t n = std::fread(text, 1, sizeof text, file);
  std::fclose(file);
  return {text, n};
}

constexpr const char* kArchiveEnding = ".archive";

}  // namespace

std::string kernels_id() {
  uint64_t value = hash("");
  for (const auto& [name, text] : kernel_sources()) value = hash(text, hash(name, value));
  return std::to_string(value);
}

Pipelines::Pipelines(const Device& device) : device_(device) {
  const Options& options = device.options();
  libraries_fit_ = !options.libraries.empty() && file_text(std::filesystem::path(options.libraries) / "id") == kernels_id();
  if (options.archive.empty()) return;
  const std::string of = message(kernels_id(), " ", device.info().name, " ", device.info().driver);
  archive_path_ = message(options.archive, "/", hash(of), kArchiveEnding);
  archive_ = open_archive(device.get(), archive_path_);
}

void Pipelines::save() {
  const std::scoped_lock lock(mutex_);
  if (!archive_grew_) return;
  archive_grew_ = false;
  @autoreleasepool {
    namespace fs = std::filesystem;
    const fs::path folder = device_.options().archive;
    std::error_code none;
    fs::create_directories(folder, none);
    // In one step, for other processes may be reading it.
    const std::string written = message(archive_path_, ".", getpid());
    if (![archive_.get() serializeToURL:[NSURL fileURLWithPath:ns_string(written)] error:nullptr]) return;
    fs::rename(written, archive_path_, none);
    // Those of older kernels and systems.
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
      if (entry.path().extension() == kArchiveEnding && entry.path() != archive_path_) fs::remove(entry.path(), none);
    }
  }
}

id<MTLLibrary> Pipelines::library(const std::string& file) {
  Owned<id<MTLLibrary>>& library = libraries_[file];
  if (library) return library.get();
  library = library_of_build(file);
  if (!library) library = library_of_text(file);
  [library.get() setLabel:ns_string(file)];
  return library.get();
}

// nil where there is none, or none that the device takes.
Owned<id<MTLLibrary>> Pipelines::library_of_build(const std::string& file) const {
  if (!libraries_fit_) return {};
  const std::string path = message(device_.options().libraries, "/", file, ".metallib");
  NSError* error = nil;
  return Owned<id<MTLLibrary>>([device_.get() newLibraryWithURL:[NSURL fileURLWithPath:ns_string(path)] error:&error]);
}

Owned<id<MTLLibrary>> Pipelines::library_of_text(const std::string& file) const {
  const auto source = kernel_sources().find(file);
  if (source == kernel_sources().end()) throw DeviceError(message("[metal] there is no kernel file ", file, ".metal"));
  const Owned<MTLCompileOptions*> options([[MTLCompileOptions alloc] init]);
  [options.get() setLanguageVersion:MTLLanguageVersion3_0];
  // Sums are written with fma where they are hot; elsewhere NaN and infinity must stay what they are.
  [options.get() setFastMathEnabled:NO];
  NSError* error = nil;
  Owned<id<MTLLibrary>> library([device_.get() newLibraryWithSource:ns_string(std::string(source->second))
                                                            options:options.get()
                                                              error:&error]);
  if (!library) {
    throw DeviceError(message("[metal] ", device_.info().name, ": ", file,
                              ".metal: ", with_source_line(text(error), source->second)));
  }
  return library;
}

const Kernel& Pipelines::get(const std::string& file, const std::string& function, const Constants& constants,
                             uint32_t threads) {
  const std::scoped_lock lock(mutex_);
  std::unique_ptr<Kernel>& kernel = kernels_[{file, function, constants, threads}];
  if (kernel == nullptr) {
    @autoreleasepool {
      auto made = std::make_unique<Kernel>();
      made->name = file + " " + function;
      const auto fail = [&](const std::string& what) {
        throw DeviceError(message("[metal] ", device_.info().name, ": kernel ", made->name, ": ", what));
      };
      const Owned<MTLFunctionConstantValues*> values([[MTLFunctionConstantValues alloc] init]);
      for (uint32_t i = 0; i < N_CONSTANTS; ++i) {
        const uint32_t value = constants[i];
        [values.get() setConstantValue:&value type:MTLDataTypeUInt atIndex:i];
      }
      NSError* error = nil;
      const Owned<id<MTLFunction>> compiled([library(file) newFunctionWithName:ns_string(function)
                                                                constantValues:values.get()
                                                                         error:&error]);
      if (!compiled) fail(text(error));
      const Owned<MTLComputePipelineDescriptor*> descriptor([[MTLComputePipelineDescriptor alloc] init]);
      [descriptor.get() setComputeFunction:compiled.get()];
      [descriptor.get() setLabel:ns_string(made->name)];
      [descriptor.get() setMaxTotalThreadsPerThreadgroup:threads];  // so many registers a thread may have
      if (archive_) [descriptor.get() setBinaryArchives:[NSArray arrayWithObject:archive_.get()]];
      const auto make = [&](MTLPipelineOption option) {
        made->pipeline = Owned<id<MTLComputePipelineState>>(
            [device_.get() newComputePipelineStateWithDescriptor:descriptor.get() options:option reflection:nullptr error:&error]);
        return bool(made->pipeline);
      };
      const bool archived = archive_ && make(MTLPipelineOptionFailOnBinaryArchiveMiss);
      if (!archived && !make(MTLPipelineOptionNone)) fail(text(error));
      if ([made->pipeline.get() threadExecutionWidth] != 32)
        fail(message("expected simdgroups of 32 threads, got ", [made->pipeline.get() threadExecutionWidth]));
      const auto most = static_cast<uint32_t>([made->pipeline.get() maxTotalThreadsPerThreadgroup]);
      if (threads > most) fail(message("needs ", threads, " threads in a threadgroup, the device allows ", most));
      if (archive_ && !archived && [archive_.get() addComputePipelineFunctionsWithDescriptor:descriptor.get() error:nullptr])
        archive_grew_ = true;
      kernel = std::move(made);
    }
  }
  return *kernel;
}

}  // namespace rwkvnative::metal
