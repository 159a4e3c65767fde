// The Python face of a Translator: it also owns who resolves configurations.
#pragma once

#include "common.hpp"
#include "viommu/translator.hpp"

namespace viommu {

struct PyTranslator {
    PyTranslator(std::shared_ptr<Memory> memory, py::function resolve_, std::shared_ptr<Iotlb> iotlb,
                 std::size_t context_entries, std::size_t walk_cache_entries, bool sanitize)
        : engine(std::move(memory), std::move(iotlb), context_entries, walk_cache_entries, sanitize),
          resolve(std::move(resolve_)) {}
    Translator engine;
    py::function resolve;
};

}  // namespace viommu
