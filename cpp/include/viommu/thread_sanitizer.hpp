// Whether this is built for ThreadSanitizer, which understands only what is atomic to the compiler.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define VIOMMU_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define VIOMMU_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define VIOMMU_THREAD_SANITIZER 0
#endif
