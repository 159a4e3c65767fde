// Device registers that a program maps: each load and store is the service's to answer, in order, as on a bus.
#pragma once

#include <signal.h>

#include <cstddef>

#include "wire.hpp"

namespace viommu::shim {

// Registers of a file of the service, mapped at [start, start + length); `memory` is a descriptor of their room, which
// is the caller's. `position` is where they lie in the file. False, and errno: there is no room for more (ENOMEM), or
// this machine cannot run one instruction alone (ENODEV).
bool trap_registers(u64 start, std::size_t length, u64 file, u64 position, int memory);

// A fault of memory: one of registers is served here, one of memory that is being shared waits, others are passed on.
void on_fault(int signal, siginfo_t* info, void* context);
// The end of a single step.
void on_step(int signal, siginfo_t* info, void* context);

}  // namespace viommu::shim
