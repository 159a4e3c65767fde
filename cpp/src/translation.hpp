// Where one access goes, as Python sees it: `viommu.Translation`. Not one of pybind11's types: a scalar hit makes one,
// and must cost little.
#pragma once

#include "common.hpp"
#include "viommu/translator.hpp"

namespace viommu {

// A new reference; null, with MemoryError set, where there is no memory. What a TranslatorHit says comes in registers:
// that it was just stored in pieces would delay a copy.
PyObject* new_translation(u64 iova, u64 pa, u64 ipa, u32 rest);

}  // namespace viommu
