// Pipelines, and archives of them.
#include "soft.h"

#include <fstream>

@implementation MTLComputePipelineDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLComputePipelineDescriptor class] ? [SoftComputePipelineDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftComputePipelineDescriptor
- (id)init {
  if ((self = [super init])) soft_count("MTLComputePipelineDescriptor", 1);
  return self;
}
- (void)dealloc {
  soft_count("MTLComputePipelineDescriptor", -1);
  [label_ release];
  [function_ release];
  [archives_ release];
  [super dealloc];
}
- (void)setLabel:(NSString*)label {
  [label_ autorelease];
  label_ = [label copy];
}
- (NSString*)label {
  return label_;
}
- (void)setComputeFunction:(id<MTLFunction>)function {
  [function_ autorelease];
  function_ = [(SoftFunction*)function retain];
}
- (id<MTLFunction>)computeFunction {
  return function_;
}
- (void)setThreadGroupSizeIsMultipleOfThreadExecutionWidth:(BOOL)whole {
  whole_simdgroups_ = whole;
}
- (void)setMaxTotalThreadsPerThreadgroup:(NSUInteger)threads {
  max_threads_ = threads;
}
- (void)setBinaryArchives:(NSArray*)archives {
  [archives_ autorelease];
  archives_ = [archives copy];
}
- (NSArray*)binaryArchives {
  return archives_;
}
- (void)setSupportIndirectCommandBuffers:(BOOL)support {
  SOFT_CHECK(!support, "indirect command buffers are not emulated");
}
@end

@implementation SoftPipeline
- (void)dealloc {
  [function_ release];
  [super dealloc];
}
- (NSUInteger)threadExecutionWidth {
  return 32;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return max_threads_;
}
- (NSUInteger)staticThreadgroupMemoryLength {
  return 0;
}
- (BOOL)supportIndirectCommandBuffers {
  return NO;
}
@end

id<MTLComputePipelineState> soft_pipeline(MTLComputePipelineDescriptor* descriptor, MTLPipelineOption options, NSError** error) {
  auto* d = static_cast<SoftComputePipelineDescriptor*>(descriptor);
  SOFT_CHECK(d && d->function_, "a compute pipeline without a function");
  if (options & MTLPipelineOptionFailOnBinaryArchiveMiss) {
    bool found = false;
    for (NSUInteger i = 0; i < [d->archives_ count]; i++) found |= soft_archive_has([d->archives_ objectAtIndex:i], [d->function_ key]);
    if (!found) {
      if (error) *error = soft_error(@"MTLBinaryArchiveDomain", 1, "no archive has " + [d->function_ key]);
      return nil;
    }
  }
  SoftPipeline* pipeline = [[SoftPipeline alloc] init];
  pipeline->function_ = [d->function_ retain];
  pipeline->label_ = [d->label_ copy];
  pipeline->whole_simdgroups_ = d->whole_simdgroups_;
  pipeline->max_threads_ = static_cast<NSUInteger>(msl_kernel_max_threads(d->function_->kernel_));
  if (d->max_threads_) pipeline->max_threads_ = std::min(pipeline->max_threads_, d->max_threads_);
  return pipeline;
}

// ---------------------------------------------------------------- archives

@interface SoftArchiveDescriptor : MTLBinaryArchiveDescriptor {
 @public
  NSURL* url_;
}
@end

@implementation MTLBinaryArchiveDescriptor
+ (id)allocWithZone:(NSZone*)zone {
  return self == [MTLBinaryArchiveDescriptor class] ? [SoftArchiveDescriptor allocWithZone:zone] : [super allocWithZone:zone];
}
@end

@implementation SoftArchiveDescriptor
- (id)init {
  if ((self = [super init])) soft_count("MTLBinaryArchiveDescriptor", 1);
  return self;
}
- (void)dealloc {
  soft_count("MTLBinaryArchiveDescriptor", -1);
  [url_ release];
  [super dealloc];
}
- (void)setUrl:(NSURL*)url {
  [url_ autorelease];
  url_ = [url copy];
}
- (NSURL*)url {
  return url_;
}
@end

// The file is a line for each function, behind a first line that tells a device and its software apart.
namespace {
constexpr const char* kMagic = "software Metal archive 1";
}

@implementation SoftArchive
- (id)init {
  if ((self = [super init])) keys_ = new std::map<std::string, bool>;
  return self;
}
- (void)dealloc {
  delete keys_;
  [super dealloc];
}
- (BOOL)addComputePipelineFunctionsWithDescriptor:(MTLComputePipelineDescriptor*)descriptor error:(NSError**)error {
  (void)error;
  auto* d = static_cast<SoftComputePipelineDescriptor*>(descriptor);
  SOFT_CHECK(d && d->function_, "addComputePipelineFunctionsWithDescriptor: without a function");
  (*keys_)[[d->function_ key]] = true;
  return YES;
}
- (BOOL)serializeToURL:(NSURL*)url error:(NSError**)error {
  SOFT_CHECK(url, "serializeToURL: nil");
  std::ofstream file([[url path] UTF8String]);
  file << kMagic << '\n';
  for (const auto& [key, present] : *keys_) file << key << '\n';
  file.close();
  if (file) return YES;
  if (error) *error = soft_error(@"MTLBinaryArchiveDomain", 2, std::string("cannot write ") + [[url path] UTF8String]);
  return NO;
}
@end

id<MTLBinaryArchive> soft_archive(MTLBinaryArchiveDescriptor* descriptor, NSError** error) {
  NSURL* url = static_cast<SoftArchiveDescriptor*>(descriptor)->url_;
  SoftArchive* archive = [[SoftArchive alloc] init];
  if (!url) return archive;
  std::ifstream file([[url path] UTF8String]);
  std::string line;
  if (!std::getline(file, line) || line != kMagic) {
    if (error) *error = soft_error(@"MTLBinaryArchiveDomain", 1, std::string("not an archive: ") + [[url path] UTF8String]);
    [archive release];
    return nil;
  }
  while (std::getline(file, line)) (*archive->keys_)[line] = true;
  return archive;
}

bool soft_archive_has(id<MTLBinaryArchive> archive, const std::string& key) { return ((SoftArchive*)archive)->keys_->count(key) != 0; }
