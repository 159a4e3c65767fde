// What Linux 6.11 and later answer about one address of a process's mappings, by an ioctl of /proc/PID/maps. The layout
// is the kernel's. It stands on nothing: the library that `viommu run` puts into programs has it too.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace viommu {

struct MapQuery {
    std::uint64_t size = sizeof(MapQuery), query_flags = 0, query_address = 0;
    std::uint64_t start = 0, end = 0, flags = 0, page_size = 0, offset = 0, inode = 0;
    std::uint32_t device_major = 0, device_minor = 0, name_size = 0, build_id_size = 0;
    std::uint64_t name_address = 0, build_id_address = 0;

    static constexpr std::uint64_t readable = 1, writable = 2, shared = 8;  // of `flags`
    static constexpr std::uint64_t covering_or_next = 16;                   // of `query_flags`
};
static_assert(sizeof(MapQuery) == 104);

inline constexpr auto map_query_number = _IOWR('f', 17, MapQuery);

}  // namespace viommu
