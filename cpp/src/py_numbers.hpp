// Arguments of functions that Python calls without pybind11.
#pragma once

#include "common.hpp"

namespace viommu {

// A whole number up to `most`; false, with no error left, where it is none.
inline bool read_number(PyObject* object, u64 most, u64& value) {
    if (!PyLong_Check(object)) return false;
    value = PyLong_AsUnsignedLongLong(object);
    if (value == ~u64{0} && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return value <= most;
}

}  // namespace viommu
