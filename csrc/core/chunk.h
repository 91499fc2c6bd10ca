// Lengths of a chunk of a prompt: how many tokens of it a submit takes.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace rwkvnative {

// The name of the constant that asks for one (Backend::set_tuning), and the longest there is.
inline constexpr const char* kPrefillRows = "prefill_rows";
inline constexpr uint32_t kMostPrefillRows = 4096;

// What the Program of a length that the tuner tries may be expected to take at most. A prompt has two of them, one for its end.
inline constexpr uint64_t kMostChunkBytes = uint64_t{1} << 30;

// The powers of two from `least` to `most` whose Programs take no more than kMostChunkBytes, and that fit.
std::vector<uint32_t> chunk_lengths(uint32_t least, uint32_t most, const std::function<uint64_t(uint32_t rows)>& bytes,
                                    const std::function<bool(uint32_t rows)>& fits);

}  // namespace rwkvnative
