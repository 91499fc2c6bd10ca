// Ownership of Objective-C objects without ARC (which does not run on the Objective-C runtime that the tests use): a
// reference is counted down by a destructor, never by hand.
#pragma once

#import <Foundation/Foundation.h>

#include <string>
#include <utility>

namespace rwkvnative::metal {

// One counted reference, as `new...`, `alloc` and `copy` return it.
template <class Object>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Object taken) : object_(taken) {}
  // Counts one up: for what is returned autoreleased.
  static Owned retained(Object object) { return Owned([object retain]); }
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nil)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Owned() { [object_ release]; }

  Object get() const { return object_; }
  explicit operator bool() const { return object_ != nil; }

 private:
  Object object_ = nil;
};

// What @autoreleasepool is, for whole functions, and for blocks that an exception may leave: that one lets go of its objects only if none does.
class AutoreleasePool {
 public:
  AutoreleasePool() : pool_([[NSAutoreleasePool alloc] init]) {}
  AutoreleasePool(const AutoreleasePool&) = delete;
  AutoreleasePool& operator=(const AutoreleasePool&) = delete;
  ~AutoreleasePool() { [pool_ drain]; }

 private:
  NSAutoreleasePool* pool_;
};

inline std::string text(NSString* string) {
  const char* utf8 = string == nil ? nullptr : [string UTF8String];
  return utf8 == nullptr ? std::string() : std::string(utf8);
}

inline std::string text(NSError* error) {
  return error == nil ? "no reason given" : text([error localizedDescription]);
}

// Autoreleased.
inline NSString* ns_string(const std::string& string) { return [NSString stringWithUTF8String:string.c_str()]; }

}  // namespace rwkvnative::metal
