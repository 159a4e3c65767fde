#include "viommu/memory.hpp"

#include "common.hpp"

namespace viommu {
namespace {

void check_range(u64 start, u64 length) {
    if (start & 7) throw py::value_error("region start " + hex(start) + " is not a multiple of 8");
    if (!length || length & 7)
        throw py::value_error("region length " + hex(length) + " is not a positive multiple of 8");
    if (start + (length - 1) < start)
        throw py::value_error("region of " + hex(length) + " bytes at " + hex(start) +
                              " ends beyond the address space");
}

void map_buffer(Memory& memory, u64 start, const py::buffer& buffer, u64 offset, std::optional<u64> length,
                bool writable) {
    py::buffer_info info = buffer.request(writable);
    const u64 size = static_cast<u64>(info.size) * static_cast<u64>(info.itemsize);
    if (info.ndim > 1 || (info.ndim == 1 && info.strides[0] != info.itemsize && info.size > 1))
        throw py::value_error("region buffer is not one contiguous run of bytes");
    if (offset > size)
        throw py::value_error("region offset " + hex(offset) + " is beyond the buffer's " + hex(size) + " bytes");
    const u64 count = length.value_or(size - offset);
    if (count > size - offset)
        throw py::value_error("region length " + hex(count) + " is more than the buffer's " + hex(size - offset) +
                              " bytes from its offset");
    check_range(start, count);
    auto* const host = static_cast<std::byte*>(info.ptr) + offset;
    if (reinterpret_cast<std::uintptr_t>(host) & 7)
        throw py::value_error("region buffer is not aligned to 8 bytes in this process");
    auto owner = shared_python(std::move(info));
    py::gil_scoped_release unlocked;
    memory.add({start, start + (count - 1), host, writable, nullptr, std::move(owner)});
}

void map_address(Memory& memory, u64 start, u64 address, u64 length, bool writable) {
    check_range(start, length);
    if (address & 7) throw py::value_error("region memory is not aligned to 8 bytes in this process");
    py::gil_scoped_release unlocked;
    memory.add({start, start + (length - 1), reinterpret_cast<std::byte*>(address), writable, nullptr, nullptr});
}

// Calls Python from a walk; what it raises is an abort, told through sys.unraisablehook.
template <typename Answer, typename... Args>
std::optional<Answer> ask(const py::function& callback, const char* what, Args... args) {
    py::gil_scoped_acquire locked;
    try {
        return callback(args...).template cast<std::optional<Answer>>();
    } catch (py::error_already_set& error) {
        error.discard_as_unraisable(what);
    } catch (const py::cast_error& error) {
        PyErr_SetString(PyExc_TypeError, error.what());
        PyErr_WriteUnraisable(callback.ptr());
    }
    return std::nullopt;
}

void map_callback(Memory& memory, u64 start, u64 length, py::function load, py::function compare_exchange) {
    check_range(start, length);
    auto loader = shared_python(std::move(load));
    auto exchanger = shared_python(std::move(compare_exchange));
    auto callbacks = std::make_shared<const Callbacks>(
        Callbacks{[loader](u64 pa) { return ask<u64>(*loader, "viommu memory callback: load", pa); },
                  [exchanger](u64 pa, u64 expected, u64 desired) {
                      return ask<bool>(*exchanger, "viommu memory callback: compare_exchange", pa, expected, desired);
                  }});
    py::gil_scoped_release unlocked;
    memory.add({start, start + (length - 1), nullptr, true, std::move(callbacks), nullptr});
}

std::optional<py::bytes> read(const Memory& memory, u64 pa, std::size_t length) {
    {
        // Before anything is allocated: a length may come from a hostile table.
        py::gil_scoped_release unlocked;
        if (!memory.covers(pa, length)) return std::nullopt;
    }
    py::bytes out(nullptr, length);
    auto* const bytes = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(out.ptr()));
    bool whole;
    {
        py::gil_scoped_release unlocked;
        whole = memory.read(pa, bytes, length);
    }
    if (!whole) return std::nullopt;
    return out;
}

std::optional<bool> compare_exchange(const Memory& memory, u64 pa, u64 expected, u64 desired) {
    if (pa & 7) throw py::value_error("compare-and-exchange address " + hex(pa) + " is not a multiple of 8");
    py::gil_scoped_release unlocked;
    const Exchange outcome = memory.view().compare_exchange(pa, expected, desired);
    return outcome == Exchange::refused ? std::nullopt : std::optional(outcome == Exchange::stored);
}

bool write(Memory& memory, u64 pa, const py::buffer& data) {
    const py::buffer_info info = data.request();
    if (info.ndim > 1 || (info.ndim == 1 && info.size > 1 && info.strides[0] != info.itemsize))
        throw py::value_error("data to write is not one contiguous run of bytes");
    py::gil_scoped_release unlocked;
    return memory.write(pa, static_cast<const std::byte*>(info.ptr),
                        static_cast<std::size_t>(info.size * info.itemsize));
}

}  // namespace

void bind_memory(py::module_& m) {
    py::class_<Memory, std::shared_ptr<Memory>>(m, "Memory", py::is_final(), "A physical address space of regions.")
        .def(py::init<>())
        .def("map", &map_buffer, "start"_a, "buffer"_a, py::kw_only(), "offset"_a = 0, "length"_a = py::none(),
             "writable"_a = true)
        .def("map_address", &map_address, "start"_a, "address"_a, "length"_a, py::kw_only(), "writable"_a = true)
        .def("map_callback", &map_callback, "start"_a, "length"_a, "load"_a, "compare_exchange"_a)
        .def(
            "unmap",
            [](Memory& memory, u64 start, u64 length) {
                check_range(start, length);
                py::gil_scoped_release unlocked;
                memory.remove(start, start + (length - 1));
            },
            "start"_a, "length"_a)
        .def("read", &read, "pa"_a, "length"_a)
        .def("write", &write, "pa"_a, "data"_a)
        .def(
            "load",
            [](const Memory& memory, u64 pa) -> std::optional<u64> {
                if (pa & 7) throw py::value_error("load address " + hex(pa) + " is not a multiple of 8");
                py::gil_scoped_release unlocked;
                u64 value;
                return memory.view().load(pa, value) ? std::optional(value) : std::nullopt;
            },
            "pa"_a)
        .def("compare_exchange", &compare_exchange, "pa"_a, "expected"_a, "desired"_a)
        .def("regions", [](const Memory& memory) {
            py::gil_scoped_release unlocked;
            std::vector<std::tuple<u64, u64, bool>> regions;
            const auto picture = memory.picture();
            for (const Region& r : picture->regions()) regions.emplace_back(r.start, r.last, r.writable);
            return regions;
        });
}

}  // namespace viommu
