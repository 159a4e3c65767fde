// System calls, made without the C library: its `syscall` is one of the functions that this library stands in front of.
#pragma once

#include <errno.h>
#include <sys/syscall.h>

#include <type_traits>

namespace viommu::shim {

inline long trap(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
#else
#error "how is the kernel called on this machine?"
#endif
}

template <typename T> long as_word(T value) {
    if constexpr (std::is_null_pointer_v<T>)
        return 0;
    else if constexpr (std::is_pointer_v<T>)
        return reinterpret_cast<long>(value);
    else
        return static_cast<long>(value);
}

// As the C library's `syscall`: the result, or -1 and errno.
template <typename... Words> long kernel(long number, Words... words) {
    static_assert(sizeof...(words) <= 6);
    const long given[6] = {as_word(words)...};
    const long result = trap(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    if (static_cast<unsigned long>(result) <= -4096ul) return result;
    errno = static_cast<int>(-result);
    return -1;
}

}  // namespace viommu::shim
