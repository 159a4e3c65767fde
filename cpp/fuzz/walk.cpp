// Whatever tables hold: a walk ends, leaves memory that is not there alone (AddressSanitizer watches), grants what it
// says, and says the same when it is observed.
//
// Memory is 64 KiB at address 0 in which a few words of the input repeat, most of them as pointers into it. So every
// pointer finds a table, and tables that hold themselves are common.
#include <set>

#include "fields.hpp"
#include "viommu/translator.hpp"

using namespace viommu;

namespace {

constexpr std::size_t memory_words = 8192;
constexpr u64 page_mask = memory_words * 8 - 4096;

u8 granule(Fields& in) { return static_cast<u8>(12 + 2 * in.within(0, 2)); }

fmt::ArmHalf arm_half(Fields& in) {
    const u8 lg2 = granule(in);
    return {in.page(), in.within(lg2 + 1, 55), lg2, in.flag(), in.flag(), in.flag(), in.flag()};
}

fmt::ArmStage1 arm_stage1(Fields& in) {
    fmt::ArmStage1 f;
    f.halves[0] = arm_half(in);
    f.halves[1] = arm_half(in);
    f.output_bits = in.within(32, 56);
    for (bool* setting :
         {&f.has_upper, &f.access_flag_faults, &f.hardware_access, &f.hardware_dirty, &f.hardware_table_access,
          &f.write_implies_no_execute, &f.user_write_implies_no_privileged_execute, &f.privileged_access_never,
          &f.single_privilege, &f.large_52, &f.swapped})
        *setting = in.flag();
    return f;
}

fmt::ArmStage2 arm_stage2(Fields& in) {
    fmt::ArmStage2 f;
    f.table = in.page();
    f.granule_lg2 = granule(in);
    f.top_level = in.within(0, f.granule_lg2 == 12 ? 4 : 3);
    const unsigned span = f.geometry().span_lg2(f.top_level);
    f.input_bits = in.within(span + 1, std::max(span + 1, std::min(span + f.geometry().stride() + 4, 56u)));
    f.output_bits = in.within(32, 56);
    for (bool* setting : {&f.access_flag_faults, &f.hardware_access, &f.hardware_dirty, &f.execute_never_extended,
                          &f.forced_write_back, &f.protect_table_walk, &f.large_52, &f.swapped})
        *setting = in.flag();
    return f;
}

fmt::X86 x86(Fields& in) {
    fmt::X86 f;
    f.table = in.page();
    f.levels = in.within(4, 5);
    f.output_bits = in.within(32, 52);
    for (bool* setting : {&f.sign_extended, &f.write_protect, &f.no_execute, &f.extended_accessed, &f.accessed_dirty,
                          &f.may_update, &f.page_1g})
        *setting = in.flag();
    return f;
}

fmt::VtdSecondStage vtd_second_stage(Fields& in) {
    fmt::VtdSecondStage f;
    f.table = in.page();
    f.levels = in.within(3, 5);
    f.input_bits = in.within(12, 64);
    f.output_bits = in.within(32, 52);
    for (bool* setting : {&f.page_2m, &f.page_1g, &f.accessed_dirty, &f.may_update, &f.snoop_reserved,
                          &f.transient_reserved, &f.legacy_order})
        *setting = in.flag();
    return f;
}

fmt::AmdV1 amd_v1(Fields& in) {
    fmt::AmdV1 f;
    f.table = in.page();
    f.mode = in.within(1, 6);
    f.output_bits = in.within(32, 52);
    f.accessed = in.flag();
    f.dirty = in.flag();
    return f;
}

fmt::Riscv riscv(Fields& in, bool guest_stage) {
    fmt::Riscv f;
    f.guest_stage = guest_stage;
    f.table = in.page() & (guest_stage ? ~u64{0x3FFF} : ~u64{0});
    f.levels = in.within(3, 5);
    f.output_bits = in.within(32, 56);
    for (bool* setting :
         {&f.hardware_update, &f.svpbmt, &f.svnapot, &f.svrsw60t59b, &f.supervisor_user_access, &f.swapped})
        *setting = in.flag();
    return f;
}

fmt::Described described(Fields& in) {
    fmt::Described f;
    f.table = in.page();
    f.level_count = in.within(1, fmt::Described::max_levels);
    f.span[0] = in.within(3, 30);
    for (unsigned level = 0; level < f.level_count; ++level) {
        // At least one bit for each level that is still to come.
        const unsigned most = 64 - f.span[level] - (f.level_count - level - 1);
        f.span[level + 1] = static_cast<u8>(f.span[level] + in.within(1, std::min(20u, most)));
    }
    f.input_bits = in.within(f.span[0], f.span[f.level_count]);
    f.output_bits = in.within(12, 64);
    f.address_shift = in.within(0, 32);
    f.leaf_levels = in.take<u32>();
    for (u64* mask :
         {&f.address_mask, &f.present_mask, &f.leaf_mask, &f.read_mask, &f.write_mask, &f.execute_mask, &f.user_mask,
          &f.inverted_rights, &f.accessed_mask, &f.dirty_mask, &f.table_reserved, &f.leaf_reserved})
        *mask = in.take<u64>();
    f.present_value = in.take<u64>() & f.present_mask;
    f.leaf_value = in.take<u64>() & f.leaf_mask;
    f.sign_extended = in.flag();
    f.hierarchical = in.flag();
    f.swapped = in.flag();
    return f;
}

Stage1 stage1(Fields& in) {
    switch (in.within(0, 4)) {
    case 0: return arm_stage1(in);
    case 1: return x86(in);
    case 2: return riscv(in, false);
    case 3: return described(in);
    default: return NoStage{};
    }
}

Stage2 stage2(Fields& in) {
    switch (in.within(0, 5)) {
    case 0: return arm_stage2(in);
    case 1: return vtd_second_stage(in);
    case 2: return amd_v1(in);
    case 3: return riscv(in, true);
    case 4: return described(in);
    default: return NoStage{};
    }
}

Context context(Fields& in) {
    ContextSettings settings;
    settings.rights = in.take<u8>() & access::wants;
    settings.input_bits = in.within(12, 64);
    if (in.flag()) settings.blocked_output = OutputRange{0xFEE0'0000, 0xFEEF'FFFF};
    Stage1 first = stage1(in);
    return {std::move(first), stage2(in), settings};
}

std::vector<u64> tables(Fields& in) {
    std::vector<u64> words;
    while (in.left() && words.size() < 64) {
        const u64 word = in.take<u64>();
        words.push_back(in.take<u8>() & 3 ? word & (~bits(51, 12) | page_mask) : word);
    }
    std::vector<u64> memory(memory_words);
    for (std::size_t i = 0; !words.empty() && i < memory.size(); ++i)
        memory[i] = words[i * 0x9E37'79B9 / 7 % words.size()];
    return memory;
}

template <typename Observer>
Result walk(const Context& context, std::vector<u64>& words, u64 iova, u8 access, Observer& observer) {
    Memory memory;
    memory.add({0, words.size() * 8 - 1, reinterpret_cast<std::byte*>(words.data()), true, nullptr, nullptr});
    View view = memory.view();
    Result result;
    context.walk(view, {}, iova, access, result, observer);
    return result;
}

bool same(const Result& a, const Result& b) {
    return a.kind == b.kind && a.stage == b.stage && a.fault_class == b.fault_class && a.level == b.level &&
           a.page_lg2 == b.page_lg2 && a.entry_address == b.entry_address && a.entry_value == b.entry_value &&
           a.missing == b.missing && a.ipa == b.ipa && a.pa == b.pa;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    // Eight levels, each entry behind eight more, and 64 attempts at a store: far more than any walk of tables that
    // nobody else writes.
    constexpr u64 most_loads = 8 * 9 * 64;

    Fields in(data, size);
    const u64 iova = in.take<u64>() >> in.within(0, 52);
    const u8 wanted = in.take<u8>() & (access::wants | access::privileged);
    const Context subject = context(in);
    std::vector<u64> words = tables(in), observed_words = words;

    Unobserved unobserved;
    const Result result = walk(subject, words, iova, wanted, unobserved);
    if (unobserved.loads > most_loads) broken("a walk ends");
    if (result.ok() && result.rights.missing(wanted)) broken("what is translated is permitted");
    if (result.ok() && ((result.pa ^ iova) & below(std::min<unsigned>(result.page_lg2, 12))))
        broken("an address keeps its offset in the page");

    Recorder recorder;
    if (!same(walk(subject, observed_words, iova, wanted, recorder), result)) broken("an observed walk says the same");
    if (words != observed_words) broken("an observed walk stores the same");
    return 0;
}
