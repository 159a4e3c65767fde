#include "viommu/table_writer.hpp"

#include "common.hpp"

namespace viommu {
namespace {

constexpr unsigned smallest_frame_lg2 = 12, largest_frame_lg2 = 40;

unsigned frame_lg2(u64 lg2) { return bounded("FramePool", "lg2", lg2, smallest_frame_lg2, largest_frame_lg2); }

std::array<u64, TableShape::max_levels> by_level(const char* field, const std::vector<u64>& flags, unsigned levels) {
    if (flags.size() != levels)
        throw py::value_error(std::string("TableShape: ") + field + " has " + std::to_string(flags.size()) +
                              " values, not one for each of " + std::to_string(levels) + " levels");
    std::array<u64, TableShape::max_levels> out{};
    std::ranges::copy(flags, out.begin());
    return out;
}

TableShape make_shape(u64 levels, u64 granule_lg2, u64 top_index_lg2, u64 leaf_levels,
                      const std::vector<u64>& table_flags, const std::vector<u64>& leaf_flags,
                      const std::array<u64, 4>& rights, u64 address_mask, u64 address_shift, u64 high_mask,
                      u64 high_shift) {
    TableShape shape;
    shape.levels = bounded("TableShape", "levels", levels, 1, TableShape::max_levels);
    shape.granule_lg2 = bounded("TableShape", "granule_lg2", granule_lg2, 12, 16);
    shape.top_index_lg2 = bounded("TableShape", "top_index_lg2", top_index_lg2, 1, shape.stride() + 4);
    shape.leaf_levels = bounded("TableShape", "leaf_levels", leaf_levels, 1, below(shape.levels));
    if (!shape.may_be_leaf(0)) throw py::value_error("TableShape: leaf_levels lacks level 0");
    if (shape.span_lg2(shape.top()) >= 64)
        throw py::value_error("TableShape: an entry of the top level would cover all of 2^64 bytes or more");
    shape.address_shift = bounded("TableShape", "address_shift", address_shift, 0, 11);
    shape.high_shift = bounded("TableShape", "high_shift", high_shift, 0, 63);
    shape.address_mask = address_mask;
    shape.high_mask = high_mask;
    shape.table_flags = by_level("table_flags", table_flags, shape.levels);
    shape.leaf_flags = by_level("leaf_flags", leaf_flags, shape.levels);
    shape.rights = rights;
    return shape;
}

void check_range(const TableShape& shape, u64 iova, u64 length) {
    if (!length || (iova | length) & below(shape.granule_lg2))
        throw py::value_error("range of " + hex(length) + " bytes at " + hex(iova) + " is not made of pages of " +
                              hex(bit(shape.granule_lg2)) + " bytes");
    const u64 last = iova + (length - 1);
    if (last < iova || last & ~below(shape.input_bits()))
        throw py::value_error("range of " + hex(length) + " bytes at " + hex(iova) + " ends beyond the table's " +
                              std::to_string(shape.input_bits()) + " bits");
}

std::unique_ptr<TableWriter> make_writer(std::shared_ptr<FramePool> pool, const TableShape& shape) {
    std::vector<Frame> root;
    if (!pool->take(TableWriter::root_lg2(shape), 1, root))
        throw py::value_error("the pool has no frame for the root: add one of lg2 " +
                              std::to_string(TableWriter::root_lg2(shape)));
    return std::make_unique<TableWriter>(std::move(pool), shape, root.front());
}

u64 map(TableWriter& writer, u64 iova, u64 pa, u64 length, unsigned prot, std::optional<u64> largest, u64 extra) {
    const TableShape& shape = writer.shape();
    check_range(shape, iova, length);
    const u64 last_pa = pa + (length - 1), granule = below(shape.granule_lg2);
    if (pa & granule || last_pa < pa || !shape.holds(pa) || !shape.holds(last_pa & ~granule))
        throw py::value_error("physical range of " + hex(length) + " bytes at " + hex(pa) +
                              " is not what an entry can hold");
    if (prot >= shape.rights.size()) throw py::value_error("prot " + std::to_string(prot) + " is not within 0..3");
    const u64 flags = shape.rights[prot] | extra;
    const unsigned largest_lg2 = largest ? static_cast<unsigned>(std::bit_width(*largest | 1)) - 1 : 64;
    Mapped outcome;
    {
        py::gil_scoped_release unlocked;
        outcome =
            writer.map({iova, iova + (length - 1), pa, flags, std::max<unsigned>(largest_lg2, shape.granule_lg2)});
    }
    if (outcome.outcome == MapOutcome::overlaps)
        throw py::value_error("IOVA " + hex(outcome.at) + " is mapped already");
    return outcome.frames;
}

Unmapped unmap(TableWriter& writer, u64 iova, u64 length) {
    check_range(writer.shape(), iova, length);
    Unmapped gone;
    {
        py::gil_scoped_release unlocked;
        gone = writer.unmap(iova, iova + (length - 1));
    }
    if (gone.cut)
        throw py::value_error("range of " + hex(length) + " bytes at " + hex(iova) + " cuts the leaf at " +
                              hex(gone.leaf_start) + "-" + hex(gone.leaf_last) + ": unmap it whole");
    return gone;
}

void bind_pool(py::module_& m) {
    py::class_<FramePool, std::shared_ptr<FramePool>>(m, "FramePool", py::is_final(), "Zeroed frames, by size.")
        .def(py::init([](std::shared_ptr<Memory> memory) { return std::make_shared<FramePool>(std::move(memory)); }),
             "memory"_a)
        .def(
            "add",
            [](FramePool& pool, u64 pa, u64 length, u64 lg2) {
                const unsigned size = frame_lg2(lg2);
                if (!length || (pa | length) & below(size))
                    throw py::value_error("run of " + hex(length) + " bytes at " + hex(pa) +
                                          " is not made of frames of 2^" + std::to_string(size) + " bytes");
                pool.add(pa, length, size);
            },
            "pa"_a, "length"_a, "lg2"_a)
        .def(
            "available", [](const FramePool& pool, u64 lg2) { return pool.available(frame_lg2(lg2)); }, "lg2"_a)
        .def(
            "take",
            [](FramePool& pool, u64 lg2) -> std::optional<u64> {
                std::vector<Frame> taken;
                return pool.take(frame_lg2(lg2), 1, taken) ? std::optional(taken.front().pa) : std::nullopt;
            },
            "lg2"_a)
        .def("give", [](FramePool& pool, u64 pa, u64 lg2) { pool.give_back(pa, frame_lg2(lg2)); }, "pa"_a, "lg2"_a);
}

}  // namespace

void bind_table_writer(py::module_& m) {
    bind_pool(m);
    py::class_<TableShape>(m, "TableShape", py::is_final(), "How entries of a page table look, by masks.")
        .def(py::init(&make_shape), py::kw_only(), "levels"_a, "granule_lg2"_a, "top_index_lg2"_a, "leaf_levels"_a,
             "table_flags"_a, "leaf_flags"_a, "rights"_a, "address_mask"_a, "address_shift"_a = 0, "high_mask"_a = 0,
             "high_shift"_a = 0)
        .def_property_readonly("input_bits", &TableShape::input_bits);
    py::class_<Unmapped>(m, "Unmapped", py::is_final(), "What an unmap took away.")
        .def_readonly("bytes", &Unmapped::bytes)
        .def_readonly("tables", &Unmapped::tables)
        .def_readonly("smallest_lg2", &Unmapped::smallest_lg2)
        .def_readonly("id", &Unmapped::id);
    py::class_<TableWriter>(m, "TableWriter", py::is_final(), "A page table that a host driver fills.")
        .def(py::init(&make_writer), "pool"_a, "shape"_a)
        .def_property_readonly("root", &TableWriter::root)
        .def_property_readonly("tables", &TableWriter::tables)
        .def("map", &map, "iova"_a, "pa"_a, "length"_a, "prot"_a, "largest"_a = py::none(), "extra"_a = 0)
        .def("unmap", &unmap, "iova"_a, "length"_a)
        .def(
            "reclaim", [](TableWriter& writer, const Unmapped& gone) { writer.reclaim(gone.id); }, "gone"_a,
            py::call_guard<py::gil_scoped_release>())
        .def(
            "leaf",
            [](const TableWriter& writer, u64 iova) -> std::optional<std::tuple<u64, unsigned, u64>> {
                if (iova & ~below(writer.shape().input_bits())) return std::nullopt;
                const auto found = writer.find(iova);
                if (!found) return std::nullopt;
                return std::tuple(found->pa, found->lg2, found->entry);
            },
            "iova"_a)
        .def("free", &TableWriter::clear, py::call_guard<py::gil_scoped_release>());
}

}  // namespace viommu
