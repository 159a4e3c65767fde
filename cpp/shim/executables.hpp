// Which programs load this library when they are started. core/viommu/service/executables.py says the same beforehand.
#pragma once

namespace viommu::shim {

// Why a file loads none, or nullptr. What cannot be read is left to whoever starts it.
const char* why_not_loadable(int folder, const char* path);

}  // namespace viommu::shim
