// The C library's own functions, beneath those that this library puts in front of them.
#pragma once

#include <dlfcn.h>

#include <atomic>

namespace viommu::shim {

// The next definition of a name, looked up when it is first used. Looking up twice does no harm.
template <typename Function> class Real {
public:
    explicit constexpr Real(const char* name) : name_(name) {}

    template <typename... Arguments> auto operator()(Arguments... arguments) { return get()(arguments...); }
    Function* get() {
        void* found = found_.load(std::memory_order_relaxed);
        if (!found) found_.store(found = dlsym(RTLD_NEXT, name_), std::memory_order_relaxed);
        return reinterpret_cast<Function*>(found);
    }

private:
    const char* name_;
    std::atomic<void*> found_ = nullptr;
};

}  // namespace viommu::shim

// Puts a function in front of the C library's of the same name; REAL(name) is that one.
#define REAL(name) (::viommu::shim::real_##name)
// Attributes of a declaration, such as nonnull, are no part of the type that is kept.
#define DECLARE_REAL(name)                                                                                             \
    _Pragma("GCC diagnostic push")                                                                                     \
        _Pragma("GCC diagnostic ignored \"-Wignored-attributes\"") inline ::viommu::shim::Real<decltype(::name)>       \
            real_##name{#name};                                                                                        \
    _Pragma("GCC diagnostic pop")
#define EXPORT extern "C" __attribute__((visibility("default")))
