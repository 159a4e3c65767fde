// How Python is asked for configurations.
#pragma once

#include "py_translator.hpp"
#include "viommu/batch.hpp"

namespace viommu {

// Asks Python for one configuration; anything but a Context is a refusal, kept for the caller.
inline ResolvedContext ask(const py::function& resolve, ContextKey key, py::dict& refusals) {
    if (!resolve) throw std::logic_error("this Translator has been collected, and its resolve with it");
    py::object answer = resolve(key.requester, key.pasid);
    if (py::isinstance<Context>(answer)) return answer.cast<std::shared_ptr<Context>>();
    refusals[py::make_tuple(key.requester, key.pasid)] = std::move(answer);
    return nullptr;
}

}  // namespace viommu
