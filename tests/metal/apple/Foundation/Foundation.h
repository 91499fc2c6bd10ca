// The part of Foundation that csrc/metal uses, declarations only, to compile for macOS without an SDK. objc/*.h are Apple's
// own, which zig brings. A message that is not declared here is an error: look it up in Apple's documentation, add it.
#pragma once
#include <Availability.h>
#include <dispatch/dispatch.h>
#include <objc/NSObjCRuntime.h>
#include <objc/NSObject.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef NS_ENUM
#define NS_ENUM(type, name) \
  enum name : type name;    \
  enum name : type
#endif
#ifndef NS_OPTIONS
#define NS_OPTIONS(type, name) \
  type name;                   \
  enum : type
#endif

typedef double NSTimeInterval;
typedef struct _NSRange {
  NSUInteger location, length;
} NSRange;
static inline NSRange NSMakeRange(NSUInteger location, NSUInteger length) {
  NSRange range = {location, length};
  return range;
}
typedef NSUInteger NSStringEncoding;
enum : NSStringEncoding { NSUTF8StringEncoding = 4 };

@class NSString, NSDictionary, NSData, NSURL, NSArray, NSError, NSDate, NSBundle, NSEnumerator, NSSet, NSNumber;
typedef NSString* NSErrorDomain;
extern NSString* const NSLocalizedDescriptionKey;

@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(void*)state objects:(id __unsafe_unretained[])buffer count:(NSUInteger)count;
@end

@interface NSString : NSObject
+ (instancetype)stringWithUTF8String:(const char*)text;
+ (instancetype)stringWithFormat:(NSString*)format, ...;
- (instancetype)initWithBytes:(const void*)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding;
- (const char*)UTF8String;
- (NSUInteger)length;
- (BOOL)isEqualToString:(NSString*)other;
@end

@interface NSAutoreleasePool : NSObject
- (void)drain;
@end

@interface NSArray : NSObject <NSFastEnumeration>
+ (instancetype)arrayWithObject:(id)object;
+ (instancetype)arrayWithObjects:(const id*)objects count:(NSUInteger)count;
- (NSUInteger)count;
- (id)objectAtIndex:(NSUInteger)index;
- (id)objectAtIndexedSubscript:(NSUInteger)index;
@end

@interface NSDictionary : NSObject
+ (instancetype)dictionaryWithObject:(id)object forKey:(id)key;
- (id)objectForKey:(id)key;
@end

@interface NSData : NSObject
- (const void*)bytes;
- (NSUInteger)length;
@end

@interface NSError : NSObject
- (NSString*)localizedDescription;
- (NSInteger)code;
- (NSDictionary*)userInfo;
- (NSErrorDomain)domain;
@end

@interface NSURL : NSObject
+ (instancetype)fileURLWithPath:(NSString*)path;
- (NSString*)path;
@end

@interface NSNumber : NSObject
+ (NSNumber*)numberWithInt:(int)value;
@end

@interface NSProcessInfo : NSObject
+ (NSProcessInfo*)processInfo;
- (NSString*)operatingSystemVersionString;
@end

@interface NSBundle : NSObject
+ (NSBundle*)bundleWithPath:(NSString*)path;
@end
