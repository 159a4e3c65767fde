// Opening, as far as only system calls do it.
#pragma once

#include <linux/openat2.h>

#include <cstddef>

namespace viommu::shim {

// openat2: `path` may name a node. -1 and errno.
long open_by_structure(int folder, const char* path, const open_how* how, std::size_t size);

}  // namespace viommu::shim
