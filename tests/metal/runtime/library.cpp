#include "library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "fiber.h"
#include "msl_runtime.h"

extern "C" void* __tls_get_addr(void*);

namespace {

struct Search {
  msl_library* library;
  uintptr_t load_address;
};

int note_segments(dl_phdr_info* info, size_t, void* data) {
  const Search& search = *static_cast<Search*>(data);
  if (info->dlpi_addr != search.load_address) return 0;
  msl_library& library = *search.library;
  library.begin = UINTPTR_MAX;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_LOAD) {
      library.begin = std::min<uintptr_t>(library.begin, info->dlpi_addr + segment.p_vaddr);
      library.end = std::max<uintptr_t>(library.end, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
    } else if (segment.p_type == PT_TLS) {
      library.tls_module = info->dlpi_tls_modid;
      library.tls_bytes = segment.p_memsz;
    }
  }
  return 1;
}

// Kernel libraries look our callbacks up among the process's global symbols, where Python does not put what it loads.
void make_runtime_global() {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&make_runtime_global), &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

template <typename T>
const T* symbol(void* handle, const char* name) {
  return static_cast<const T*>(dlsym(handle, name));
}

}  // namespace

char* msl_library::static_threadgroup_memory() const {
  if (!tls_module) return nullptr;
  struct {
    unsigned long module, offset;
  } index = {tls_module, 0};
  return static_cast<char*>(__tls_get_addr(&index));
}

msl_library* msl_open_library(const char* path, char* error, size_t error_size) {
  auto library = std::make_unique<msl_library>();
  make_runtime_global();
  library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library->handle) {
    snprintf(error, error_size, "%s", dlerror());
    return nullptr;
  }
  library->kernels = symbol<msl::KernelEntry>(library->handle, "msl_kernels");
  library->constants = symbol<msl::FunctionConstant>(library->handle, "msl_constants");
  if (!library->kernels || !library->constants) {
    snprintf(error, error_size, "%s was not made by msl/compiler.py", path);
    return nullptr;
  }
  while (library->kernels[library->n_kernels].name) library->n_kernels++;
  while (library->constants[library->n_constants].name) library->n_constants++;
  link_map* map = nullptr;
  dlinfo(library->handle, RTLD_DI_LINKMAP, &map);
  Search search{library.get(), map->l_addr};
  dl_iterate_phdr(note_segments, &search);
  return library.release();
}

void msl_close_library(msl_library* library) {
  dlclose(library->handle);
  delete library;
}

namespace {
const msl::KernelEntry& entry(const msl_kernel* kernel) { return *reinterpret_cast<const msl::KernelEntry*>(kernel); }
}  // namespace

int msl_kernel_count(const msl_library* library) { return library->n_kernels; }

const msl_kernel* msl_kernel_at(const msl_library* library, int i) {
  return reinterpret_cast<const msl_kernel*>(&library->kernels[i]);
}

const msl_kernel* msl_find_kernel(const msl_library* library, const char* name) {
  for (int i = 0; i < library->n_kernels; i++)
    if (!std::strcmp(library->kernels[i].name, name)) return msl_kernel_at(library, i);
  return nullptr;
}

const char* msl_kernel_name(const msl_kernel* kernel) { return entry(kernel).name; }

int msl_kernel_max_threads(const msl_kernel* kernel) {
  return entry(kernel).max_threads ? entry(kernel).max_threads : static_cast<int>(msl::kMaxThreads);
}

int msl_kernel_uses(const msl_kernel* kernel, int threadgroup, int index) {
  const msl::Kind kind = threadgroup ? msl::threadgroup_memory : msl::buffer;
  for (int i = 0; i < entry(kernel).n_bindings; i++) {
    const msl::Binding& b = entry(kernel).bindings[i];
    if (b.kind == kind && b.index == index) return b.read_only ? 2 : 1;
  }
  return 0;
}

int msl_constant_count(const msl_library* library) { return library->n_constants; }

void msl_constant_at(const msl_library* library, int i, int* index, const char** name, const char** type, size_t* size) {
  const msl::FunctionConstant& c = library->constants[i];
  *index = c.index;
  *name = c.name;
  *type = c.type;
  *size = c.size;
}

int msl_set_constant(msl_library* library, int index, const void* value) {
  for (int i = 0; i < library->n_constants; i++)
    if (library->constants[i].index == index) {
      std::memcpy(library->constants[i].storage, value, library->constants[i].size);
      return 0;
    }
  return -1;
}
