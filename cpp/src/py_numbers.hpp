// Arguments of functions that Python calls without pybind11.
#pragma once

#include "common.hpp"

namespace viommu {

// A whole number up to `most`; false, with no error left, where it is none.
[[gnu::always_inline]] inline bool read_number(PyObject* object, u64 most, u64& value) {
    if (!object || !PyLong_Check(object)) return false;
#if PY_VERSION_HEX < 0x030C0000
    // What PyLong_AsUnsignedLongLong takes a detour for: two digits are a usual address.
    const auto* const digits = reinterpret_cast<PyLongObject*>(object)->ob_digit;
    const Py_ssize_t count = Py_SIZE(object);
    static_assert(PyLong_SHIFT == 30);
    if (static_cast<std::size_t>(count) <= 2) [[likely]] {
        value = count ? digits[0] : 0;
        if (count == 2) value |= u64{digits[1]} << PyLong_SHIFT;
        return value <= most;
    }
#endif
    value = PyLong_AsUnsignedLongLong(object);
    if (value == ~u64{0} && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return value <= most;
}

}  // namespace viommu
