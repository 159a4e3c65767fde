#include "viommu/dma.hpp"

#include "py_translator.hpp"
#include "result.hpp"

namespace viommu {
namespace {

std::optional<Result> stop_of(const DmaProgress& progress) {
    return progress.translated ? std::optional(progress.result) : std::nullopt;
}

DmaProgress read_into(Translator& engine, const DmaRequest& asked, std::byte* out, u64 room) {
    py::gil_scoped_release unlocked;
    return Dma(engine, asked).run(room, [=](std::byte* host, u64 offset, u64 count) {
        SharedBytes::read(host, out + offset, count);
    });
}

DmaProgress write_from(Translator& engine, const DmaRequest& asked, const std::byte* in, u64 room) {
    py::gil_scoped_release unlocked;
    return Dma(engine, asked).run(room, [=](std::byte* host, u64 offset, u64 count) {
        SharedBytes::write(host, in + offset, count);
    });
}

DmaRequest request(u32 requester, u32 pasid, u64 iova, u64 length, bool writes) {
    if (length && iova + (length - 1) < iova)
        throw py::value_error("DMA of " + hex(length) + " bytes at " + hex(iova) + " ends beyond the address space");
    return {{requester, pasid}, iova, length, writes};
}

struct Bytes {
    std::byte* start;
    u64 size;
};
Bytes bytes_of(const py::buffer_info& info) {
    if (info.ndim > 1 || (info.ndim == 1 && info.size > 1 && info.strides[0] != info.itemsize))
        throw py::value_error("buffer of a DMA is not one contiguous run of bytes");
    return {static_cast<std::byte*>(info.ptr), static_cast<u64>(info.size * info.itemsize)};
}

py::tuple dma_read(PyTranslator& t, u32 requester, u64 iova, u64 length, u64 most, u32 pasid) {
    const DmaRequest asked = request(requester, pasid, iova, length, false);
    const u64 room = std::min(length, most);
    PyObject* out = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room));
    if (!out) throw py::error_already_set();
    py::bytes held = py::reinterpret_steal<py::bytes>(out);
    const DmaProgress progress = read_into(t.engine, asked, reinterpret_cast<std::byte*>(PyBytes_AS_STRING(out)), room);
    if (progress.moved < room) {
        // The object may move: it must have no other owner meanwhile.
        out = held.release().ptr();
        if (_PyBytes_Resize(&out, static_cast<Py_ssize_t>(progress.moved)) < 0) throw py::error_already_set();
        held = py::reinterpret_steal<py::bytes>(out);
    }
    return py::make_tuple(std::move(held), stop_of(progress));
}

py::tuple dma_read_into(PyTranslator& t, u32 requester, u64 iova, const py::buffer& out, u32 pasid) {
    const py::buffer_info info = out.request(true);
    const Bytes bytes = bytes_of(info);
    const DmaRequest asked = request(requester, pasid, iova, bytes.size, false);
    const DmaProgress progress = read_into(t.engine, asked, bytes.start, bytes.size);
    return py::make_tuple(progress.moved, stop_of(progress));
}

py::tuple dma_write(PyTranslator& t, u32 requester, u64 iova, const py::buffer& data, u32 pasid) {
    const py::buffer_info info = data.request();
    const Bytes bytes = bytes_of(info);
    const DmaRequest asked = request(requester, pasid, iova, bytes.size, true);
    const DmaProgress progress = write_from(t.engine, asked, bytes.start, bytes.size);
    return py::make_tuple(progress.moved, stop_of(progress));
}

}  // namespace

void bind_dma(py::module_& m) {
    m.def("dma_read", &dma_read, "translator"_a, "requester"_a, "iova"_a, "length"_a, "most"_a, "pasid"_a = no_pasid);
    m.def("dma_read_into", &dma_read_into, "translator"_a, "requester"_a, "iova"_a, "out"_a, "pasid"_a = no_pasid);
    m.def("dma_write", &dma_write, "translator"_a, "requester"_a, "iova"_a, "data"_a, "pasid"_a = no_pasid);
}

}  // namespace viommu
