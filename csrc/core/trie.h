// The World tokenizer's core: a byte trie for greedy longest match, and the spelling of its tokens in a GGUF.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvnative {

/// An immutable byte trie over a vocabulary. Nine bytes per node, no pointers; safe to use from several threads.
class WorldTrie {
 public:
  /// tokens[i] gets ids[i] >= 0. Empty tokens are left out: they match nothing. Of equal tokens the last one wins, as
  /// in the reference tokenizer. The views are not kept. Throws InputError if the lengths differ, an id is negative, or
  /// the tokens hold 2^32 bytes or more.
  WorldTrie(std::span<const std::string_view> tokens, std::span<const std::int32_t> ids);

  /// Greedy longest match from left to right. Throws InputError at a byte where no token starts a match.
  std::vector<std::int32_t> encode(std::string_view text) const;

  std::size_t n_nodes() const { return labels_.size(); }

 private:
  // Nodes are numbered breadth first, so that the children of a node are neighbours, ascending by label, and end where
  // the children of the next node begin. Node 0 is the root; one sentinel follows the last node.
  struct Node {
    std::uint32_t first_child;
    std::int32_t id;  // of the token that ends here, or -1
  };

  std::uint32_t child(std::uint32_t node, std::uint8_t label) const;  // 0: there is none

  std::vector<Node> nodes_;
  std::vector<std::uint8_t> labels_;
  std::array<std::uint32_t, 256> root_children_{};  // the root is visited once per token: a table beats a search
};

/// The bytes of a token as World GGUFs spell it (repr(bytes) without the quotes): \t \n \r \xHH, and any other escaped
/// character stands for itself. Throws InputError for \x without two hex digits and for a lone backslash at the end.
std::string unescape_world_token(std::string_view spelling);

}  // namespace rwkvnative
