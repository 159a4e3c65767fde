// Memory in huge pages where the host has them: what is measured is the loop, not the host's own page walks.
#pragma once

#include <sys/mman.h>

#include <new>
#include <vector>

#include "viommu/types.hpp"

namespace viommu::bench {

template <typename T> struct HugePages {
    using value_type = T;
    static constexpr std::size_t page = std::size_t{2} << 20;

    HugePages() = default;
    template <typename U> HugePages(const HugePages<U>&) {}

    T* allocate(std::size_t count) {
        const std::size_t size = count * sizeof(T);
        void* const at = ::operator new(size, std::align_val_t{page});
        if (size >= page) ::madvise(at, size / page * page, MADV_HUGEPAGE);
        return static_cast<T*>(at);
    }
    void deallocate(T* at, std::size_t) { ::operator delete(at, std::align_val_t{page}); }
    bool operator==(const HugePages&) const = default;
};

template <typename T> using HugeVector = std::vector<T, HugePages<T>>;

}  // namespace viommu::bench
