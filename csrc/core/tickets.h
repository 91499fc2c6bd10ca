// A Program's tickets in flight, oldest first.
#pragma once

#include <deque>
#include <exception>
#include <span>

#include "core/backend.h"

namespace rwkvnative {

// Whatever ends its scope, an error too, none stays open: the Program takes as many again. The Program and the states of what
// was submitted must outlive it.
class Tickets {
 public:
  explicit Tickets(Program& program) : program_(program) {}
  ~Tickets() { abandon(); }
  Tickets(const Tickets&) = delete;
  Tickets& operator=(const Tickets&) = delete;

  size_t size() const { return open_.size(); }
  void submit(std::span<const Sequence> sequences) {
    open_.emplace_back();  // before there is a ticket to lose
    try {
      open_.back() = program_.submit(sequences);
    } catch (...) {
      open_.pop_back();
      throw;
    }
  }
  // Waits for the oldest, which is open no longer even if its work failed.
  Result take() {
    const Ticket ticket = open_.front();
    open_.pop_front();
    return program_.wait(ticket);
  }
  // Waits for all. What goes wrong there has followed from the error that is being reported, or nobody asks for it any more.
  void abandon() noexcept {
    while (!open_.empty()) {
      try {
        take();
      } catch (const std::exception&) {
      }
    }
  }

 private:
  Program& program_;
  std::deque<Ticket> open_;
};

}  // namespace rwkvnative
