#include "batch.hpp"

#include <cstdlib>

namespace viommu {
namespace {

enum Column : unsigned { pa, kind, page_lg2, rights, columns };

struct PyBatch {
    PyObject_HEAD std::size_t rows;
    void* block;      // all columns, the widest first
    PyObject* owner;  // of the block, once an array has been made of it
    PyObject* arrays[columns];
    std::vector<FaultRow>* faults;
    PyObject *fault_array, *refusals;
    PyObject* given[4];
};

PyTypeObject* batch_type = nullptr;

PyBatch& of(PyObject* self) { return *reinterpret_cast<PyBatch*>(self); }

void free_batch(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyBatch& batch = of(self);
    for (PyObject*& array : batch.arrays) Py_CLEAR(array);
    if (!batch.owner) std::free(batch.block);
    Py_CLEAR(batch.owner);
    delete batch.faults;
    Py_CLEAR(batch.fault_array);
    Py_CLEAR(batch.refusals);
    for (PyObject*& given : batch.given) Py_CLEAR(given);
    type->tp_free(self);
    Py_DECREF(type);
}

u8* bytes_of(const PyBatch& batch, Column column) {
    auto* const first = static_cast<u8*>(batch.block);
    return column == pa ? first : first + batch.rows * (sizeof(u64) + (column - kind));
}

template <typename Make> PyObject* kept(PyObject*& place, Make&& make) {
    if (!place) place = raising(make);
    return Py_XNewRef(place);
}

template <Column column> PyObject* array(PyObject* self, void*) {
    PyBatch& batch = of(self);
    return kept(batch.arrays[column], [&]() -> py::object {
        if (!batch.owner) batch.owner = py::capsule(batch.block, std::free).release().ptr();
        const auto rows = static_cast<py::ssize_t>(batch.rows);
        u8* const at = bytes_of(batch, column);
        const py::handle owner(batch.owner);
        if constexpr (column == pa) return py::array_t<u64>(rows, reinterpret_cast<u64*>(at), owner);
        return py::array_t<u8>(rows, at, owner);
    });
}

py::dtype fault_dtype() {
    py::list fields;
    for (const char* name : {"row", "iova", "ipa", "entry_address", "entry_value"})
        fields.append(py::make_tuple(name, "<u8"));
    for (const char* name :
         {"kind", "stage", "level", "fault_class", "missing", "rights", "access", "top", "for_top", "for_update"})
        fields.append(py::make_tuple(name, "u1"));
    fields.append(py::make_tuple("unused", "V2"));
    fields.append(py::make_tuple("driver_bits", "<u4"));
    return py::dtype::from_args(std::move(fields));
}
PyObject* records(PyObject* self, void*) {
    return kept(of(self).fault_array, [&]() -> py::object {
        const std::vector<FaultRow>& rows = *of(self).faults;
        py::array made(fault_dtype(), static_cast<py::ssize_t>(rows.size()));
        if (!rows.empty()) std::memcpy(made.mutable_data(), rows.data(), rows.size() * sizeof(FaultRow));
        return made;
    });
}
PyObject* fault_count(PyObject* self, void*) { return PyLong_FromSize_t(of(self).faults->size()); }
PyObject* refusals(PyObject* self, void*) { return Py_NewRef(of(self).refusals); }
PyObject* given(PyObject* self, void*) {
    PyObject* const* const g = of(self).given;
    return PyTuple_Pack(4, g[0], g[1], g[2], g[3]);
}
Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(of(self).rows); }

PyTypeObject* make_type() {
    static PyGetSetDef properties[] = {{"pa", array<pa>, nullptr, nullptr, nullptr},
                                       {"kind", array<kind>, nullptr, nullptr, nullptr},
                                       {"page_lg2", array<page_lg2>, nullptr, nullptr, nullptr},
                                       {"rights", array<rights>, nullptr, nullptr, nullptr},
                                       {"records", records, nullptr, nullptr, nullptr},
                                       {"fault_count", fault_count, nullptr, nullptr, nullptr},
                                       {"refusals", refusals, nullptr, nullptr, nullptr},
                                       {"given", given, nullptr, nullptr, nullptr},
                                       {}};
    static PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>("The answer to a batch: columns of n rows, in the order asked.")},
        {Py_tp_dealloc, reinterpret_cast<void*>(free_batch)},
        {Py_sq_length, reinterpret_cast<void*>(length)},
        {Py_tp_getset, properties},
        {},
    };
    static PyType_Spec spec = {"viommu._engine.Batch", sizeof(PyBatch), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return reinterpret_cast<PyTypeObject*>(owned(PyType_FromSpec(&spec)).release().ptr());
}

}  // namespace

NewBatch::NewBatch(PyTypeObject* heir, std::size_t rows) : columns_{} {
    PyTypeObject* const type = heir ? heir : batch_type;
    made_ = owned(type->tp_alloc(type, 0));  // zeroed
    PyBatch& batch = of(made_.ptr());
    batch.faults = new std::vector<FaultRow>;
    constexpr std::size_t line = 64, row = sizeof(u64) + 3;
    batch.block = std::aligned_alloc(line, (rows * row + line) / line * line);
    if (!batch.block) throw std::bad_alloc();
    batch.rows = rows;
    columns_.pa = reinterpret_cast<u64*>(bytes_of(batch, pa));
    columns_.kind = bytes_of(batch, kind);
    columns_.page_lg2 = bytes_of(batch, page_lg2);
    columns_.rights = bytes_of(batch, rights);
}

py::object NewBatch::told(const Given& given) {
    PyBatch& batch = of(made_.ptr());
    *batch.faults = std::move(columns_.faults);
    batch.refusals = refusals_.release().ptr();
    const py::object* const asked[] = {&given.requester, &given.iova, &given.access, &given.pasid};
    for (unsigned i = 0; i < 4; ++i) batch.given[i] = py::object(*asked[i]).release().ptr();
    return std::move(made_);
}

bool is_heir_of_batch(PyTypeObject* type) { return PyType_IsSubtype(type, batch_type); }

void bind_batch(py::module_& m) {
    m.attr("FAULT_DTYPE") = fault_dtype();
    batch_type = make_type();
    m.attr("Batch") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(batch_type));
}

}  // namespace viommu
