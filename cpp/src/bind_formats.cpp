#include <array>

#include "common.hpp"
#include "viommu/context.hpp"

namespace viommu {
namespace {

using namespace fmt;

u8 granule(const char* object, unsigned lg2) {
    if (lg2 != 12 && lg2 != 14 && lg2 != 16)
        throw py::value_error(std::string(object) + ": granule_lg2 " + std::to_string(lg2) + " is none of 12, 14, 16");
    return static_cast<u8>(lg2);
}

u64 aligned(const char* object, u64 table, u64 multiple) {
    if (table & (multiple - 1))
        throw py::value_error(std::string(object) + ": table " + hex(table) + " is not a multiple of " + hex(multiple));
    return table;
}

void bind_arm(py::module_& m) {
    py::class_<ArmHalf>(m, "ArmHalf", py::is_final(), "One half of an Arm stage-1 address space.")
        .def(py::init([](u64 table, unsigned input_bits, unsigned granule_lg2, bool top_byte_ignore,
                         bool walks_disabled, bool unprivileged_disabled, bool ignore_hierarchical) {
                 const u8 lg2 = granule("ArmHalf", granule_lg2);
                 return ArmHalf{table,
                                bounded("ArmHalf", "input_bits", input_bits, lg2 + 1u, 55),
                                lg2,
                                top_byte_ignore,
                                walks_disabled,
                                unprivileged_disabled,
                                ignore_hierarchical};
             }),
             py::kw_only(), "table"_a, "input_bits"_a, "granule_lg2"_a, "top_byte_ignore"_a = false,
             "walks_disabled"_a = false, "unprivileged_disabled"_a = false, "ignore_hierarchical"_a = false)
        .def_readonly("table", &ArmHalf::table)
        .def_readonly("input_bits", &ArmHalf::input_bits)
        .def_readonly("granule_lg2", &ArmHalf::granule_lg2);

    py::class_<ArmStage1>(m, "ArmStage1", py::is_final(), "Arm VMSAv8-64 stage 1.")
        .def(py::init([](const ArmHalf& lower, std::optional<ArmHalf> upper, unsigned output_bits,
                         bool access_flag_faults, bool hardware_access, bool hardware_dirty, bool hardware_table_access,
                         bool write_implies_no_execute, bool privileged_access_never, bool single_privilege,
                         bool large_52, bool big_endian) {
                 ArmStage1 f;
                 f.halves[0] = lower;
                 f.halves[1] = upper.value_or(lower);
                 f.has_upper = upper.has_value();
                 f.output_bits = bounded("ArmStage1", "output_bits", output_bits, 32, 56);
                 f.access_flag_faults = access_flag_faults;
                 f.hardware_access = hardware_access;
                 f.hardware_dirty = hardware_dirty;
                 f.hardware_table_access = hardware_table_access;
                 f.write_implies_no_execute = write_implies_no_execute;
                 f.privileged_access_never = privileged_access_never;
                 f.single_privilege = single_privilege;
                 f.large_52 = large_52;
                 f.swapped = big_endian;
                 return f;
             }),
             py::kw_only(), "lower"_a, "upper"_a = py::none(), "output_bits"_a = 48, "access_flag_faults"_a = true,
             "hardware_access"_a = false, "hardware_dirty"_a = false, "hardware_table_access"_a = false,
             "write_implies_no_execute"_a = false, "privileged_access_never"_a = false, "single_privilege"_a = false,
             "large_52"_a = false, "big_endian"_a = false);

    py::class_<ArmStage2>(m, "ArmStage2", py::is_final(), "Arm VMSAv8-64 stage 2.")
        .def(
            py::init([](u64 table, unsigned input_bits, unsigned granule_lg2, unsigned top_level, unsigned output_bits,
                        bool access_flag_faults, bool hardware_access, bool hardware_dirty, bool execute_never_extended,
                        bool forced_write_back, bool protect_table_walk, bool large_52, bool big_endian) {
                ArmStage2 f;
                f.table = table;
                f.granule_lg2 = granule("ArmStage2", granule_lg2);
                f.top_level = bounded("ArmStage2", "top_level", top_level, 0, 4);
                const unsigned span = f.geometry().span_lg2(f.top_level);
                // At least one index bit, at most a full table concatenated 16 times.
                f.input_bits = bounded("ArmStage2", "input_bits", input_bits, span + 1,
                                       std::min(span + f.geometry().stride() + 4, 56u));
                f.output_bits = bounded("ArmStage2", "output_bits", output_bits, 32, 56);
                f.access_flag_faults = access_flag_faults;
                f.hardware_access = hardware_access;
                f.hardware_dirty = hardware_dirty;
                f.execute_never_extended = execute_never_extended;
                f.forced_write_back = forced_write_back;
                f.protect_table_walk = protect_table_walk;
                f.large_52 = large_52;
                f.swapped = big_endian;
                return f;
            }),
            py::kw_only(), "table"_a, "input_bits"_a, "granule_lg2"_a, "top_level"_a, "output_bits"_a = 48,
            "access_flag_faults"_a = true, "hardware_access"_a = false, "hardware_dirty"_a = false,
            "execute_never_extended"_a = false, "forced_write_back"_a = false, "protect_table_walk"_a = false,
            "large_52"_a = false, "big_endian"_a = false)
        .def_readonly("table", &ArmStage2::table)
        .def_readonly("input_bits", &ArmStage2::input_bits)
        .def_readonly("granule_lg2", &ArmStage2::granule_lg2)
        .def_readonly("top_level", &ArmStage2::top_level);
}

void bind_x86(py::module_& m) {
    py::class_<X86>(m, "X86", py::is_final(), "x86-64 tables: VT-d first stage, AMD v2.")
        .def(py::init([](u64 table, unsigned levels, unsigned output_bits, bool sign_extended, bool write_protect,
                         bool no_execute, bool extended_accessed, bool accessed, bool dirty, bool updates_allowed,
                         bool page_1g) {
                 X86 f;
                 f.table = aligned("X86", table, 4096);
                 f.levels = bounded("X86", "levels", levels, 4, 5);
                 f.output_bits = bounded("X86", "output_bits", output_bits, 32, 52);
                 f.sign_extended = sign_extended;
                 f.write_protect = write_protect;
                 f.no_execute = no_execute;
                 f.extended_accessed = extended_accessed;
                 f.sets_accessed = accessed;
                 f.sets_dirty = dirty;
                 f.may_update = updates_allowed;
                 f.page_1g = page_1g;
                 return f;
             }),
             py::kw_only(), "table"_a, "levels"_a, "output_bits"_a = 52, "sign_extended"_a = true,
             "write_protect"_a = true, "no_execute"_a = true, "extended_accessed"_a = false, "accessed"_a = true,
             "dirty"_a = true, "updates_allowed"_a = true, "page_1g"_a = true)
        .def_readonly("table", &X86::table)
        .def_readonly("levels", &X86::levels);
}

void bind_vtd_second_stage(py::module_& m) {
    py::class_<VtdSecondStage>(m, "VtdSecondStage", py::is_final(), "VT-d second-stage tables.")
        .def(py::init([](u64 table, unsigned levels, unsigned input_bits, unsigned output_bits, bool page_2m,
                         bool page_1g, bool accessed_dirty, bool updates_allowed, bool snoop_reserved,
                         bool transient_reserved, bool legacy_order) {
                 VtdSecondStage f;
                 f.table = aligned("VtdSecondStage", table, 4096);
                 f.levels = bounded("VtdSecondStage", "levels", levels, 3, 5);
                 f.input_bits = bounded("VtdSecondStage", "input_bits", input_bits, 12, 64);
                 f.output_bits = bounded("VtdSecondStage", "output_bits", output_bits, 32, 52);
                 f.page_2m = page_2m;
                 f.page_1g = page_1g;
                 f.accessed_dirty = accessed_dirty;
                 f.may_update = updates_allowed;
                 f.snoop_reserved = snoop_reserved;
                 f.transient_reserved = transient_reserved;
                 f.legacy_order = legacy_order;
                 return f;
             }),
             py::kw_only(), "table"_a, "levels"_a, "input_bits"_a = 64, "output_bits"_a = 52, "page_2m"_a = true,
             "page_1g"_a = true, "accessed_dirty"_a = false, "updates_allowed"_a = true, "snoop_reserved"_a = false,
             "transient_reserved"_a = true, "legacy_order"_a = false)
        .def_readonly("table", &VtdSecondStage::table)
        .def_readonly("levels", &VtdSecondStage::levels);
}

void bind_amd_v1(py::module_& m) {
    py::class_<AmdV1>(m, "AmdV1", py::is_final(), "AMD host tables, modes 1 to 6.")
        .def(py::init([](u64 table, unsigned mode, bool accessed, bool dirty, unsigned output_bits) {
                 AmdV1 f;
                 f.table = aligned("AmdV1", table, 4096);
                 f.mode = bounded("AmdV1", "mode", mode, 1, 6);
                 f.sets_accessed = accessed;
                 f.sets_dirty = dirty;
                 f.output_bits = bounded("AmdV1", "output_bits", output_bits, 32, 52);
                 return f;
             }),
             py::kw_only(), "table"_a, "mode"_a, "accessed"_a = false, "dirty"_a = false, "output_bits"_a = 52)
        .def_readonly("table", &AmdV1::table)
        .def_readonly("mode", &AmdV1::mode);
}

void bind_riscv(py::module_& m) {
    py::class_<Riscv>(m, "Riscv", py::is_final(), "RISC-V Sv39/48/57 and their guest-stage forms.")
        .def(py::init([](u64 table, unsigned levels, bool guest_stage, bool hardware_update, bool svpbmt, bool svnapot,
                         bool svrsw60t59b, bool supervisor_user_access, unsigned output_bits, bool big_endian) {
                 Riscv f;
                 f.table = aligned("Riscv", table, guest_stage ? 16384 : 4096);
                 f.levels = bounded("Riscv", "levels", levels, 3, 5);
                 f.guest_stage = guest_stage;
                 f.hardware_update = hardware_update;
                 f.svpbmt = svpbmt;
                 f.svnapot = svnapot;
                 f.svrsw60t59b = svrsw60t59b;
                 f.supervisor_user_access = supervisor_user_access;
                 f.output_bits = bounded("Riscv", "output_bits", output_bits, 32, 56);
                 f.swapped = big_endian;
                 return f;
             }),
             py::kw_only(), "table"_a, "levels"_a, "guest_stage"_a = false, "hardware_update"_a = false,
             "svpbmt"_a = false, "svnapot"_a = true, "svrsw60t59b"_a = false, "supervisor_user_access"_a = false,
             "output_bits"_a = 56, "big_endian"_a = false)
        .def_readonly("table", &Riscv::table)
        .def_readonly("levels", &Riscv::levels);
}

void check_value(const char* what, u64 mask, u64 value) {
    if (value & ~mask)
        throw py::value_error(std::string("Described: ") + what + " " + hex(value) + " has bits outside its mask " +
                              hex(mask));
}

Described described(u64 table, unsigned granule_lg2, const std::vector<unsigned>& index_lg2,
                    std::optional<unsigned> input_bits, bool sign_extended, u64 address_mask, unsigned address_shift,
                    u64 present_mask, u64 present_value, u64 leaf_mask, u64 leaf_value, u64 leaf_levels, u64 read_mask,
                    u64 write_mask, u64 execute_mask, u64 user_mask, u64 inverted_rights, bool hierarchical,
                    u64 accessed_mask, u64 dirty_mask, u64 table_reserved, u64 leaf_reserved, unsigned output_bits,
                    bool big_endian) {
    Described f;
    f.table = aligned("Described", table, 8);
    f.level_count = bounded("Described", "number of levels", index_lg2.size(), 1, Described::max_levels);
    f.span[0] = bounded("Described", "granule_lg2", granule_lg2, 3, 30);
    for (std::size_t level = 0; level < index_lg2.size(); ++level) {
        const unsigned bits_here = bounded("Described", "index_lg2", index_lg2[level], 1, 20);
        f.span[level + 1] =
            bounded("Described", "granule_lg2 and the sum of index_lg2", f.span[level] + bits_here, 4, 64);
    }
    const unsigned reach = f.span[index_lg2.size()];
    f.input_bits = bounded("Described", "input_bits", input_bits.value_or(reach), f.span[0], reach);
    f.output_bits = bounded("Described", "output_bits", output_bits, 12, 64);
    f.address_shift = bounded("Described", "address_shift", address_shift, 0, 32);
    f.leaf_levels = static_cast<u32>(leaf_levels);
    check_value("present_value", present_mask, present_value);
    check_value("leaf_value", leaf_mask, leaf_value);
    f.address_mask = address_mask;
    f.present_mask = present_mask, f.present_value = present_value;
    f.leaf_mask = leaf_mask, f.leaf_value = leaf_value;
    f.read_mask = read_mask, f.write_mask = write_mask, f.execute_mask = execute_mask, f.user_mask = user_mask;
    f.inverted_rights = inverted_rights;
    f.accessed_mask = accessed_mask, f.dirty_mask = dirty_mask;
    f.table_reserved = table_reserved, f.leaf_reserved = leaf_reserved;
    f.sign_extended = sign_extended;
    f.hierarchical = hierarchical;
    f.swapped = big_endian;
    return f;
}

void bind_described(py::module_& m) {
    py::class_<Described>(m, "Described", py::is_final(), "A page-table format told at run time.")
        .def(py::init(&described), py::kw_only(), "table"_a, "granule_lg2"_a, "index_lg2"_a,
             "input_bits"_a = py::none(), "sign_extended"_a = false, "address_mask"_a, "address_shift"_a = 0,
             "present_mask"_a, "present_value"_a, "leaf_mask"_a = 0, "leaf_value"_a = 0, "leaf_levels"_a = 1,
             "read_mask"_a = 0, "write_mask"_a = 0, "execute_mask"_a = 0, "user_mask"_a = 0, "inverted_rights"_a = 0,
             "hierarchical"_a = true, "accessed_mask"_a = 0, "dirty_mask"_a = 0, "table_reserved"_a = 0,
             "leaf_reserved"_a = 0, "output_bits"_a = 64, "big_endian"_a = false)
        .def_readonly("table", &Described::table)
        .def_readonly("levels", &Described::level_count);
}

}  // namespace

void bind_formats(py::module_& m) {
    bind_arm(m);
    bind_x86(m);
    bind_vtd_second_stage(m);
    bind_amd_v1(m);
    bind_riscv(m);
    bind_described(m);
}

}  // namespace viommu
