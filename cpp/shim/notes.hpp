// What the user should know of a program, told to the service, which logs it.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

// `what` goes along: a path, or nothing.
void tell(Note note, const char* what = "");

}  // namespace viommu::shim
