// An ioctl's argument, which mostly begins with its size: its bytes go along with the question.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

// Asks for an ioctl on a file of the service.
i64 ask_ioctl(u64 file, unsigned number, const void* argument);

}  // namespace viommu::shim
