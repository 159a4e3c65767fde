// Device registers that a program maps: each load and store is the service's to answer, in order, as on a bus.
#pragma once

#include <cstddef>

#include "wire.hpp"

namespace viommu::shim {

// Registers of a file of the service, mapped at [start, start + length); `memory` is a descriptor of their room, which
// is the caller's. `position` is where they lie in the file. False, and errno: there is no room for more (ENOMEM), or
// this machine cannot run one instruction alone (ENODEV).
bool trap_registers(u64 start, std::size_t length, u64 file, u64 position, int memory);

// Catches faults from now on: those of registers, and of memory that is being shared.
void listen_for_faults();

// [start, start + length) is mapped no more.
void forget_registers(u64 start, std::size_t length);

}  // namespace viommu::shim
