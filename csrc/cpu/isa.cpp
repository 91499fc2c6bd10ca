#include "cpu/isa.h"

#include <vector>

#if RWKVNATIVE_X86
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#if RWKVNATIVE_ARM64 && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace rwkvnative::cpu {
namespace {

#if RWKVNATIVE_X86

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
       static_cast<uint32_t>(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// Which register files the operating system saves.
uint64_t xcr0() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low | static_cast<uint64_t>(high) << 32;
#endif
}

bool bit(uint32_t word, int n) { return (word >> n & 1) != 0; }

// Bits as in Intel's Software Developer's Manual, volume 2, CPUID.
std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found;
  const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
  const bool saves = bit(basic.ecx, 27);
  const uint64_t saved = saves ? xcr0() : 0;
  const bool avx2 = (saved & 0x6) == 0x6 && bit(basic.ecx, 12) && bit(basic.ecx, 29) && bit(extended.ebx, 5);
  const bool avx512 = avx2 && (saved & 0xe6) == 0xe6 && bit(extended.ebx, 16) && bit(extended.ebx, 17) &&
                      bit(extended.ebx, 30) && bit(extended.ebx, 31) && bit(extended.ecx, 11);
  if (avx512) found.push_back(&kernels_avx512());
  if (avx2 && bit(more.eax, 4)) found.push_back(&kernels_avxvnni());
  if (avx2) found.push_back(&kernels_avx2());
  return found;
}

#elif RWKVNATIVE_ARM64

std::vector<const Kernels*> detect() {
#if defined(__linux__)
  const bool dot_product = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  const bool dot_product = true;  // every Apple silicon and every arm64 Windows machine has it
#endif
  return dot_product ? std::vector<const Kernels*>{&kernels_neon()} : std::vector<const Kernels*>{};
}

#else

std::vector<const Kernels*> detect() { return {}; }

#endif

}  // namespace

std::span<const Kernels* const> runnable_kernels() {
  static const std::vector<const Kernels*> all = [] {
    std::vector<const Kernels*> found = detect();
    found.push_back(&reference_kernels());
    return found;
  }();
  return all;
}

}  // namespace rwkvnative::cpu
