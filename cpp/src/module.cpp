// viommu._engine: the table of contents.
#include "common.hpp"

PYBIND11_MODULE(_engine, m) {
    m.doc() = "The compiled engine: memory, page-table formats, one walker, IOTLB, batch translation.";
    viommu::bind_result(m);
    viommu::bind_translation(m);
    viommu::bind_memory(m);
    viommu::bind_formats(m);
    viommu::bind_flat_table(m);
    viommu::bind_context(m);
    viommu::bind_batch(m);
    viommu::bind_translator(m);
    viommu::bind_front(m);
    viommu::bind_commands(m);
    viommu::bind_dma(m);
    viommu::bind_table_writer(m);
    viommu::bind_own_memory(m);
    viommu::bind_register_page(m);
    viommu::bind_file_mapping(m);
}
