#include <algorithm>
#include <vector>

#include "common.hpp"
#include "viommu/flat_table.hpp"

namespace viommu {
namespace {

FlatForm make_form(u64 mask, u64 value, std::pair<u64, u64> reserved, unsigned address_word, u64 address_mask,
                   unsigned address_shift, unsigned rights, unsigned attrs, bool memory) {
    return {.mask = mask,
            .value = value,
            .reserved = {reserved.first, reserved.second},
            .address_word = bounded("FlatForm", "address_word", address_word, 0, 1),
            .address_shift = bounded("FlatForm", "address_shift", address_shift, 0, 63),
            .address_mask = address_mask,
            .rights = bounded("FlatForm", "rights", rights, 0, access::wants),
            .attrs = bounded("FlatForm", "attrs", attrs, 0, 255),
            .memory = memory};
}

FlatTable make_table(u64 table, u64 compared, u64 pattern, u64 indexed, unsigned words, u64 present_mask,
                     u64 present_value, const std::vector<FlatForm>& forms, unsigned output_bits, bool big_endian) {
    if (table & 7) throw py::value_error("FlatTable: table " + hex(table) + " is not a multiple of 0x8");
    FlatTable made;
    made.table = table;
    made.compared = compared;
    made.pattern = pattern;
    made.indexed = indexed;
    made.words = bounded("FlatTable", "words", words, 1, 2);
    made.output_bits = bounded("FlatTable", "output_bits", output_bits, 12, 64);
    made.swapped = big_endian;
    made.present_mask = present_mask;
    made.present_value = present_value;
    made.form_count = bounded("FlatTable", "len(forms)", forms.size(), 0, FlatTable::most_forms);
    std::copy(forms.begin(), forms.end(), made.forms.begin());
    return made;
}

}  // namespace

void bind_flat_table(py::module_& m) {
    py::class_<FlatForm>(m, "FlatForm", py::is_final(), "One form that an entry of a FlatTable may have.")
        .def(py::init(&make_form), py::kw_only(), "mask"_a, "value"_a, "reserved"_a = std::pair<u64, u64>{0, 0},
             "address_word"_a = 0, "address_mask"_a, "address_shift"_a = 0, "rights"_a = access::wants, "attrs"_a = 0,
             "memory"_a = true);
    py::class_<FlatTable>(m, "FlatTable", py::is_final(), "A flat table that takes pages over from stage 2.")
        .def(py::init(&make_table), py::kw_only(), "table"_a, "compared"_a, "pattern"_a, "indexed"_a, "words"_a = 1,
             "present_mask"_a, "present_value"_a, "forms"_a, "output_bits"_a = 64, "big_endian"_a = false)
        .def_readonly("table", &FlatTable::table)
        .def("takes", &FlatTable::takes, "ipa"_a, "Whether the page of an address is one of its.");
}

}  // namespace viommu
