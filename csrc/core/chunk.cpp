#include "core/chunk.h"

#include <algorithm>
#include <bit>

namespace rwkvnative {

std::vector<uint32_t> chunk_lengths(uint32_t least, uint32_t most, const std::function<uint64_t(uint32_t rows)>& bytes,
                                    const std::function<bool(uint32_t rows)>& fits) {
  std::vector<uint32_t> lengths;
  for (uint32_t rows = std::bit_ceil(least); rows <= std::min(most, kMostPrefillRows); rows *= 2)
    if (bytes(rows) <= kMostChunkBytes && fits(rows)) lengths.push_back(rows);
  return lengths;
}

}  // namespace rwkvnative
