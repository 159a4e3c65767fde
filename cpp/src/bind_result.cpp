#include "result.hpp"
// Once Python.h is there.
#include <structmember.h>

namespace viommu {
namespace {

struct PyResult {
    PyObject_HEAD Result result;
};

PyTypeObject* result_type = nullptr;

const Result& result_of(PyObject* self) { return reinterpret_cast<PyResult*>(self)->result; }

void free_result(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject* describe(PyObject* self) {
    const Result& r = result_of(self);
    std::string text = "Result(iova=" + hex(r.iova);
    if (r.ok())
        text += ", pa=" + hex(r.pa) + ", page_lg2=" + std::to_string(r.page_lg2) + ")";
    else
        text += ", fault=" + std::string(fault_kind_names[static_cast<u8>(r.kind)]) +
                ", stage=" + std::to_string(static_cast<u8>(r.stage)) + ", level=" + std::to_string(r.level) + ")";
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

template <typename Field> constexpr int kind_of() {
    if constexpr (std::is_same_v<Field, u64>) return T_ULONGLONG;
    if constexpr (std::is_same_v<Field, u32>) return T_UINT;
    if constexpr (std::is_same_v<Field, bool>) return T_BOOL;
    return T_UBYTE;  // and enumerations of a byte
}
template <auto Field> PyMemberDef member(const char* name) {
    using Type = std::remove_cvref_t<decltype(std::declval<Result>().*Field)>;
    static_assert(sizeof(Type) == 1 || std::is_same_v<Type, u64> || std::is_same_v<Type, u32>);
    static const Result sample;
    const auto offset = reinterpret_cast<const char*>(&(sample.*Field)) - reinterpret_cast<const char*>(&sample);
    PyMemberDef made{};
    made.name = name;
    made.type = kind_of<Type>();
    made.offset = static_cast<Py_ssize_t>(offsetof(PyResult, result)) + offset;
    made.flags = READONLY;
    return made;
}

PyObject* rights(PyObject* self, void*) {
    return PyLong_FromLong(result_of(self).rights.granted(result_of(self).access));
}

PyTypeObject* make_type() {
    static PyMemberDef members[] = {
        member<&Result::kind>("kind"),
        member<&Result::stage>("stage"),
        member<&Result::fault_class>("fault_class"),
        member<&Result::pa>("pa"),
        member<&Result::page_lg2>("page_lg2"),
        member<&Result::attrs1>("attrs1"),
        member<&Result::attrs2>("attrs2"),
        member<&Result::iova>("iova"),
        member<&Result::ipa>("ipa"),
        member<&Result::entry_address>("entry_address"),
        member<&Result::entry_value>("entry_value"),
        member<&Result::level>("level"),
        member<&Result::missing>("missing"),
        member<&Result::top>("top"),
        member<&Result::for_top>("for_top"),
        member<&Result::for_update>("for_update"),
        member<&Result::access>("access"),
        member<&Result::driver_bits>("driver_bits"),
        {},
    };
    static PyGetSetDef properties[] = {{"rights", rights, nullptr, nullptr, nullptr}, {}};
    static PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>("What became of one access: a translation, or a fault.")},
        {Py_tp_dealloc, reinterpret_cast<void*>(free_result)},
        {Py_tp_repr, reinterpret_cast<void*>(describe)},
        {Py_tp_members, members},
        {Py_tp_getset, properties},
        {},
    };
    static PyType_Spec spec = {"viommu._engine.Result", sizeof(PyResult), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    return reinterpret_cast<PyTypeObject*>(owned(PyType_FromSpec(&spec)).release().ptr());
}

}  // namespace

PyObject* new_result(const Result& result) {
    auto* const made = PyObject_New(PyResult, result_type);
    if (!made) throw py::error_already_set();
    made->result = result;
    return reinterpret_cast<PyObject*>(made);
}

void bind_result(py::module_& m) {
    result_type = make_type();
    m.attr("Result") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(result_type));
}

}  // namespace viommu
