// The file behind a model's tensors while it is in use: whether it is still the one that was opened, and which of its pages
// are wanted in memory.
//
// Reading a mapped page that the file has lost raises SIGBUS, which ends the process. While a ModelFile lives, such a read
// finds zeros instead, and check() throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace rwkvnative {

class ModelFile {
 public:
  // `path` is mapped, whole, at `mapped`. Throws FileError if it cannot be opened or has another size.
  ModelFile(const std::string& path, std::span<const std::byte> mapped);
  ~ModelFile();
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  // Throws FileError if the file was truncated or written to since, or a page of it could not be read.
  void check() const;

  // Hints for a range of the mapping, rounded to whole pages inwards (dont_need) or outwards (will_need): it will be read
  // soon, or not for a while.
  void will_need(std::span<const std::byte> range) const;
  // Reads a byte of each page: the range is in memory then, unless there is too little.
  void fetch(std::span<const std::byte> range) const;
  void dont_need(std::span<const std::byte> range) const;

 private:
  struct Facts {
    uint64_t bytes = 0;
    int64_t seconds = 0, nanoseconds = 0;  // of the last change
    bool operator==(const Facts&) const = default;
  };
  Facts facts() const;

  std::string path_;
  std::span<const std::byte> mapped_;
  int descriptor_ = -1;
  size_t watch_ = 0;  // its number in the table of the signal handler
  Facts at_open_;
};

}  // namespace rwkvnative
