// Signals that this library needs for itself: faults of memory, and the end of a single step.
#pragma once

#include <signal.h>

namespace viommu::shim {

// Catches them from now on.
void listen_for_faults();

// What is not ours is the program's: does what it asked for, as the kernel would have.
void pass_on(int signal, siginfo_t* info, void* context);

// Around fork.
void lock_signals();
void unlock_signals();
void signals_in_child();

}  // namespace viommu::shim
