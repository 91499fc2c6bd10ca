// How the tokens of several sequences share submits: which rows of which sequence go into the next one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace rwkvnative {

// Cuts sequences of any lengths into submits of at most max_rows rows of at most max_sequences sequences. A submit is full
// while there is anything to fill it with, so ragged lengths cost no padding. Sequences enter in order, each takes an even
// share of the rows (a recurrence runs over sequences in parallel, over the tokens of one in order), at least kLeastShare
// (each submit reads and writes the states of its sequences), and finished ones make room for the next.
class BatchQueue {
 public:
  struct Part {
    size_t sequence;  // index
    size_t begin;     // its tokens from here
    uint32_t rows;    // so many
    bool last;        // the end of the sequence
  };
  static constexpr uint32_t kLeastShare = 16;

  BatchQueue(std::vector<size_t> lengths, uint32_t max_rows, uint32_t max_sequences);

  // The parts of the next submit in rising order of sequence, empty when all is done. Valid until the next call.
  std::span<const Part> next();
  size_t done() const { return done_; }  // tokens handed out so far
  size_t total() const { return total_; }

 private:
  std::vector<size_t> left_;
  std::vector<size_t> active_;  // begun or next in line, rising
  std::vector<Part> parts_;
  const std::vector<size_t> lengths_;
  const uint32_t max_rows_, max_sequences_;
  size_t entered_ = 0, done_ = 0, total_ = 0;
};

}  // namespace rwkvnative
