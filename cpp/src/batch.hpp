// The answer to a batch, as Python sees it: `viommu._engine.Batch`, of which `viommu.Translations` is an heir. Columns
// become arrays when somebody looks at them: of a small batch, that is most of the work.
#pragma once

#include "common.hpp"
#include "viommu/rows.hpp"

namespace viommu {

// What was asked: columns, or values that stand for every row.
struct Given {
    py::object requester, iova, access, pasid;
};

// An answer that is being made: where its columns are, which live until it does not.
class NewBatch {
public:
    // `heir`: null or a class that is one of Batch. Throws error_already_set.
    NewBatch(PyTypeObject* heir, std::size_t rows);

    Columns& columns() { return columns_; }
    py::dict& refusals() { return refusals_; }
    // Hands it over.
    py::object told(const Given& given);

private:
    py::object made_;
    Columns columns_;
    py::dict refusals_;
};

bool is_heir_of_batch(PyTypeObject* type);

}  // namespace viommu
