// Methods that Python calls without pybind11's argument handling, which costs more than what they do.
//
// Such a method is put before one of pybind11's of the same name. It answers usual calls; any other, one with wrong
// arguments too, it hands on to the one behind it.
#pragma once

#include "py_numbers.hpp"
#include "py_translator.hpp"

#include <algorithm>
#include <vector>

namespace viommu {

using FastMethod = PyObject* (*)(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names);

// One that Python calls as its flags say, whatever its parameters are.
template <typename Function>
PyMethodDef fast_method(const char* name, Function* function, int flags, const char* documentation) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)), flags, documentation};
}

// Gives what was there, which lives as long as the process.
template <FastMethod method> PyObject* put_before(py::handle type, const char* name) {
    const py::object behind = type.attr(name);
    static const std::string documentation = py::str(behind.attr("__doc__"));
    static PyMethodDef definition = fast_method(name, method, METH_FASTCALL | METH_KEYWORDS, documentation.c_str());
    type.attr(name) = owned(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition));
    return behind.inc_ref().ptr();
}
inline PyObject* call_behind(PyObject* function, PyObject* self, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
    const Py_ssize_t given = count + (names ? PyTuple_GET_SIZE(names) : 0);
    constexpr Py_ssize_t few = 7;  // of which nothing need be allocated
    PyObject* at_hand[1 + few];
    std::vector<PyObject*> many(given > few ? static_cast<std::size_t>(1 + given) : 0);
    PyObject** const all = many.empty() ? at_hand : many.data();
    all[0] = self;
    std::copy_n(args, given, all + 1);
    return PyObject_Vectorcall(function, all, static_cast<std::size_t>(1 + count), names);
}

// What an object of a bound class holds; null where it was never constructed.
template <typename Held> Held* held_by(PyObject* object) {
    const auto* const instance = reinterpret_cast<py::detail::instance*>(object);
    return instance->simple_layout ? static_cast<Held*>(instance->simple_value_holder[0]) : nullptr;
}
// Null where an object is no Translator.
inline PyTranslator* translator_of(PyObject* object) {
    static const PyTypeObject* const type =
        reinterpret_cast<PyTypeObject*>(py::type::of<PyTranslator>().release().ptr());
    return Py_TYPE(object) == type ? held_by<PyTranslator>(object) : nullptr;
}

}  // namespace viommu
