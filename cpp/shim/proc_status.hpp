// /proc/PID/status as a kernel with iommufd would show it.
#pragma once

#include <stdio.h>

namespace viommu::shim {

// The same file, or, where it is the status of a process that the service knows, one whose VmLck and VmPin count what
// the service has pinned of it.
FILE* with_pins(const char* path, FILE* opened);

}  // namespace viommu::shim
