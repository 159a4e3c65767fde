// What became of one access, as Python sees it. Not one of pybind11's types: a scalar hit makes one, and must cost
// little.
#pragma once

#include "common.hpp"

namespace viommu {

// A new reference to a `Result`; throws error_already_set where there is no memory.
PyObject* new_result(const Result& result);

}  // namespace viommu

namespace pybind11::detail {

template <> struct type_caster<viommu::Result> {
    PYBIND11_TYPE_CASTER(viommu::Result, const_name("viommu._engine.Result"));

    static bool load(handle, bool) { return false; }  // nobody is given one
    static handle cast(const viommu::Result& result, return_value_policy, handle) { return viommu::new_result(result); }
};

}  // namespace pybind11::detail
