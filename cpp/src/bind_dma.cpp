#include "viommu/dma_copy.hpp"

#include "fast_call.hpp"
#include "result.hpp"

namespace viommu {
namespace {

// Functions as C has them: pybind11's handling of arguments and buffers would cost more than a small DMA does, and more
// than that after a large one, which leaves little else in the host's caches.

// A buffer of Python's, as one run of bytes; none where it is not.
class Bytes {
public:
    Bytes(PyObject* object, int flags) : held_(!PyObject_GetBuffer(object, &view_, flags)) {
        if (!held_) PyErr_Clear();
    }
    ~Bytes() {
        if (held_) PyBuffer_Release(&view_);
    }
    Bytes(const Bytes&) = delete;

    explicit operator bool() const { return held_; }
    std::byte* start() const { return static_cast<std::byte*>(view_.buf); }
    u64 size() const { return static_cast<u64>(view_.len); }

private:
    Py_buffer view_;
    bool held_;
};

// A call's first arguments: translator, requester, IOVA, PASID or None.
struct Asked {
    PyTranslator* translator = nullptr;
    DmaRequest request{};

    // False where nothing that is cached can be meant.
    bool read(PyObject* const* args, bool writes) {
        u64 requester, pasid = no_pasid;
        translator = translator_of(args[0]);
        if (!translator || !read_number(args[1], ~u32{0}, requester) || !read_number(args[2], ~u64{0}, request.iova) ||
            (!Py_IsNone(args[3]) && !read_number(args[3], no_pasid - 1, pasid)))
            return false;
        request.key = {static_cast<u32>(requester), static_cast<u32>(pasid)};
        request.writes = writes;
        return true;
    }
    bool read_length(u64 length) {
        request.length = length;
        return length && request.iova + (length - 1) >= request.iova;
    }
};

DmaProgress read(const Asked& asked, std::byte* out, u64 room) {
    py::gil_scoped_release unlocked;
    return Dma(asked.translator->engine, asked.request).run(room, [=](std::byte* host, u64 offset, u64 count) {
        SharedBytes::read(host, out + offset, count);
    });
}
DmaProgress write(const Asked& asked, const std::byte* in) {
    py::gil_scoped_release unlocked;
    return Dma(asked.translator->engine, asked.request)
        .run(asked.request.length,
             [=](std::byte* host, u64 offset, u64 count) { SharedBytes::write(host, in + offset, count); });
}

py::object stop_of(const DmaProgress& progress) { return progress.translated ? py::cast(progress.result) : py::none(); }
py::object so_far(const DmaProgress& progress, u64 length) {
    return progress.moved == length ? py::none() : py::object(py::make_tuple(progress.moved, stop_of(progress)));
}
py::object nothing() { return so_far({}, 1); }

py::object dma_read(PyObject* const* args) {
    Asked asked;
    u64 length, most;
    if (!asked.read(args, false) || !read_number(args[4], ~u64{0}, length) || !asked.read_length(length) ||
        !read_number(args[5], ~u64{0}, most))
        return py::make_tuple(py::bytes(), py::none());
    const u64 room = std::min(length, most);
    py::object held = owned(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(room)));
    const DmaProgress progress = read(asked, reinterpret_cast<std::byte*>(PyBytes_AS_STRING(held.ptr())), room);
    if (progress.moved == length) return held;
    if (progress.moved < room) {
        // The object may move: it must have no other owner meanwhile.
        PyObject* out = held.release().ptr();
        if (_PyBytes_Resize(&out, static_cast<Py_ssize_t>(progress.moved)) < 0) throw py::error_already_set();
        held = owned(out);
    }
    return py::make_tuple(std::move(held), stop_of(progress));
}

py::object dma_read_into(PyObject* const* args) {
    Asked asked;
    u64 length;
    if (!asked.read(args, false) || !read_number(args[4], ~u64{0}, length) || !asked.read_length(length))
        return nothing();
    const Bytes out(args[5], PyBUF_WRITABLE);
    return out && out.size() == length ? so_far(read(asked, out.start(), length), length) : nothing();
}

py::object dma_write(PyObject* const* args) {
    Asked asked;
    if (!asked.read(args, true)) return nothing();
    const Bytes data(args[4], PyBUF_SIMPLE);
    return data && asked.read_length(data.size()) ? so_far(write(asked, data.start()), data.size()) : nothing();
}

py::object dma_copy(PyObject* const* args) {
    Asked source, target;
    PyObject* const of_target[] = {args[0], args[1], args[4], args[5]};
    u64 length, times;
    const bool meant = source.read(args, false) && target.read(of_target, true) &&
                       read_number(args[6], ~u64{0}, length) && source.read_length(length) &&
                       target.read_length(length) && read_number(args[7], ~u64{0} / length, times) && times;
    if (!meant) return py::make_tuple(0, false, py::none());
    const CopyRequest asked{
        source.request.key, source.request.iova, target.request.key, target.request.iova, length, times};
    CopyProgress progress;
    {
        py::gil_scoped_release unlocked;
        progress = DmaCopy::run_all(source.translator->engine, asked);
    }
    if (progress.moved == length * times) return py::none();
    return py::make_tuple(progress.moved, progress.writes,
                          progress.translated ? py::cast(progress.result) : py::object(py::none()));
}

template <py::object (*function)(PyObject* const*), Py_ssize_t takes>
PyObject* call(PyObject*, PyObject* const* args, Py_ssize_t count) {
    if (count != takes) return PyErr_Format(PyExc_TypeError, "takes %zd arguments, %zd were given", takes, count);
    return raising([&] { return function(args); });
}
// The last argument of a copy may be left out.
PyObject* call_copy(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 7) return call<dma_copy, 8>(self, args, count);
    PyObject* all[8];
    std::copy_n(args, 7, all);
    const py::object once = py::int_(1);
    all[7] = once.ptr();
    return call<dma_copy, 8>(self, all, 8);
}
template <py::object (*function)(PyObject* const*), Py_ssize_t takes>
PyMethodDef method(const char* name, const char* documentation) {
    return fast_method(name, call<function, takes>, METH_FASTCALL, documentation);
}

}  // namespace

void bind_dma(py::module_& m) {
    static PyMethodDef methods[] = {
        method<dma_read, 6>("dma_read", "dma_read(translator, requester, iova, pasid, length, most, /)\n\n"
                                        "What a device reads, as far as nothing is out of the ordinary."),
        method<dma_read_into, 6>("dma_read_into",
                                 "dma_read_into(translator, requester, iova, pasid, length, out, /)\n\n"
                                 "The same into a buffer."),
        method<dma_write, 5>("dma_write", "dma_write(translator, requester, iova, pasid, data, /)\n\n"
                                          "The same for what a device writes."),
        fast_method(
            "dma_copy", call_copy, METH_FASTCALL,
            "dma_copy(translator, requester, source, source_pasid, target, target_pasid, length, times=1, /)\n\n"
            "The same for what a device copies."),
        {},
    };
    if (PyModule_AddFunctions(m.ptr(), methods) < 0) throw py::error_already_set();
}

}  // namespace viommu
