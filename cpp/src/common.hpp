// What every binding starts from. pybind11 comes first: Python.h insists.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <memory>
#include <sstream>
#include <string>

#include "viommu/types.hpp"

namespace viommu {

namespace py = pybind11;
using namespace pybind11::literals;

// For Python objects that the engine's threads may let go of.
template <typename Object> std::shared_ptr<Object> shared_python(Object object) {
    return {new Object(std::move(object)), [](Object* held) {
                py::gil_scoped_acquire locked;
                delete held;
            }};
}

inline std::string hex(u64 value) {
    std::ostringstream text;
    text << "0x" << std::hex << value;
    return text.str();
}

// A new reference; throws the error that Python has set where it is null.
inline py::object owned(PyObject* object) {
    if (!object) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(object);
}
[[noreturn]] inline void raise_os_error(int error) {
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    throw py::error_already_set();
}
// Exceptions of C++ as pybind11's own functions raise them.
template <typename Call> PyObject* raising(Call&& call) {
    try {
        return py::object(call()).release().ptr();
    } catch (...) {
        py::detail::try_translate_exceptions();
        return nullptr;
    }
}

// A constructor's argument within its bounds, or a ValueError that names all four.
inline u8 bounded(const char* object, const char* field, u64 value, u64 low, u64 high) {
    if (value < low || value > high)
        throw py::value_error(std::string(object) + ": " + field + " " + std::to_string(value) + " is not within " +
                              std::to_string(low) + ".." + std::to_string(high));
    return static_cast<u8>(value);
}

void bind_result(py::module_& m);
void bind_translation(py::module_& m);
void bind_memory(py::module_& m);
void bind_formats(py::module_& m);
void bind_flat_table(py::module_& m);
void bind_context(py::module_& m);
void bind_batch(py::module_& m);
void bind_translator(py::module_& m);
void bind_front(py::module_& m);
void bind_commands(py::module_& m);
void bind_dma(py::module_& m);
void bind_table_writer(py::module_& m);
void bind_own_memory(py::module_& m);
void bind_register_page(py::module_& m);
void bind_file_mapping(py::module_& m);

}  // namespace viommu
