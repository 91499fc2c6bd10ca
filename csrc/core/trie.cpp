#include "core/trie.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace rwkvnative {

WorldTrie::WorldTrie(std::span<const std::string_view> tokens, std::span<const std::int32_t> ids) {
  if (tokens.size() != ids.size()) {
    throw InputError(message("[tokenizer] vocabulary: expected one id per token, got ", tokens.size(), " tokens and ",
                             ids.size(), " ids"));
  }
  std::size_t n_bytes = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    n_bytes += tokens[i].size();
    if (ids[i] < 0) throw InputError(message("[tokenizer] vocabulary: expected ids >= 0, got ", ids[i]));
  }
  if (std::max(n_bytes, tokens.size()) >= std::numeric_limits<std::uint32_t>::max()) {
    throw InputError(message("[tokenizer] vocabulary: expected less than 2^32 bytes of tokens, got ", n_bytes));
  }

  // Sorted, all tokens with a common prefix are one range; a stable sort keeps equal tokens in the order given.
  std::vector<std::uint32_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return tokens[a] < tokens[b]; });
  const auto first_non_empty =
      std::find_if(order.begin(), order.end(), [&](std::uint32_t i) { return !tokens[i].empty(); });

  struct Range {
    std::uint32_t begin, end, depth;  // the sorted tokens that start with the node's prefix of `depth` bytes
  };
  std::vector<Range> ranges{
      {static_cast<std::uint32_t>(first_non_empty - order.begin()), static_cast<std::uint32_t>(order.size()), 0}};
  labels_.push_back(0);
  for (std::size_t node = 0; node < ranges.size(); ++node) {  // grows as children are appended
    auto [begin, end, depth] = ranges[node];
    std::int32_t id = -1;
    for (; begin < end && tokens[order[begin]].size() == depth; ++begin) id = ids[order[begin]];
    nodes_.push_back({static_cast<std::uint32_t>(ranges.size()), id});
    while (begin < end) {
      const char label = tokens[order[begin]][depth];
      std::uint32_t stop = begin + 1;
      while (stop < end && tokens[order[stop]][depth] == label) ++stop;
      ranges.push_back({begin, stop, depth + 1});
      labels_.push_back(static_cast<std::uint8_t>(label));
      begin = stop;
    }
  }
  nodes_.push_back({static_cast<std::uint32_t>(ranges.size()), -1});
  for (std::uint32_t i = nodes_[0].first_child; i < nodes_[1].first_child; ++i) root_children_[labels_[i]] = i;
}

std::uint32_t WorldTrie::child(std::uint32_t node, std::uint8_t label) const {
  const std::uint32_t first = nodes_[node].first_child, count = nodes_[node + 1].first_child - first;
  if (count == 0) return 0;
  if (count == 1) return labels_[first] == label ? first : 0;
  const void* found = std::memchr(&labels_[first], label, count);
  return found ? static_cast<std::uint32_t>(static_cast<const std::uint8_t*>(found) - labels_.data()) : 0;
}

std::vector<std::int32_t> WorldTrie::encode(std::string_view text) const {
  std::vector<std::int32_t> out;
  out.reserve(text.size() / 3 + 8);
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    std::int32_t id = -1;
    std::size_t length = 0, depth = 1;
    for (std::uint32_t node = root_children_[bytes[at]]; node != 0; ++depth) {
      if (nodes_[node].id >= 0) {
        id = nodes_[node].id;
        length = depth;
      }
      if (at + depth == text.size()) break;
      node = child(node, bytes[at + depth]);
    }
    if (id < 0) {
      constexpr const char* kHex = "0123456789ABCDEF";
      throw InputError(message("[tokenizer] the vocabulary has no token for the text at byte ", at, " of ", text.size(),
                               " (byte value 0x", kHex[bytes[at] >> 4], kHex[bytes[at] & 15], ")"));
    }
    out.push_back(id);
    at += length;
  }
  return out;
}

std::string unescape_world_token(std::string_view spelling) {
  const auto hex_digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    if (spelling[i] != '\\') {
      bytes.push_back(spelling[i]);
      continue;
    }
    if (++i == spelling.size()) throw InputError("expected a character after the backslash at the end");
    switch (spelling[i]) {
      case 't':
        bytes.push_back('\t');
        break;
      case 'n':
        bytes.push_back('\n');
        break;
      case 'r':
        bytes.push_back('\r');
        break;
      case 'x': {
        const int high = i + 2 < spelling.size() ? hex_digit(spelling[i + 1]) : -1;
        const int low = i + 2 < spelling.size() ? hex_digit(spelling[i + 2]) : -1;
        if (high < 0 || low < 0) throw InputError(message("expected two hex digits after \\x at position ", i - 1));
        bytes.push_back(static_cast<char>(high * 16 + low));
        i += 2;
        break;
      }
      default:
        bytes.push_back(spelling[i]);
    }
  }
  return bytes;
}

}  // namespace rwkvnative
