// What every fuzz target starts from: the input as fields, and a way to say that a promise was broken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "viommu/types.hpp"

namespace viommu {

[[noreturn]] inline void broken(const char* promise) {
    std::fprintf(stderr, "broken: %s\n", promise);
    std::abort();
}

// The input, field by field; zeros once it has ended.
class Fields {
public:
    Fields(const u8* data, std::size_t size) : data_(data), size_(size) {}

    template <typename T> T take() {
        T value{};
        const std::size_t count = std::min(size_, sizeof value);
        if (count) std::memcpy(&value, data_, count);
        data_ += count;
        size_ -= count;
        return value;
    }
    bool flag() { return take<u8>() & 1; }
    // Both bounds are inclusive.
    u8 within(unsigned least, unsigned most) { return static_cast<u8>(least + take<u8>() % (most - least + 1)); }
    std::size_t left() const { return size_; }

private:
    const u8* data_;
    std::size_t size_;
};

}  // namespace viommu
