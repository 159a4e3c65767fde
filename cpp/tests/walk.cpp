// Whole walks over tables in memory: every format, both stages, and what a guest may do to a walk.
#include "check.hpp"
#include "tables.hpp"

namespace viommu::test {
namespace {

using access::execute, access::privileged, access::read, access::table_fetch, access::write;

constexpr u64 iova = 0x12'3456'7000, target = 0x9'8765'4000;

Context stage1(Stage1 format) { return {std::move(format), {}, {}}; }
Context stage2(Stage2 format) { return {{}, std::move(format), {}}; }

void lands(const Ram& ram, const Context& context, u64 input, u64 output, unsigned lg2,
           Where where = Where::current()) {
    const Result r = walked(ram, context, input);
    equals(static_cast<unsigned>(r.kind), 0u, where);
    equals(r.pa, output, where);
    equals(r.page_lg2, lg2, where);
    equals(r.iova, input, where);
}
void refuses(const Result& r, FaultKind kind, Stage stage, unsigned level, Where where = Where::current()) {
    equals(fault_kind_names[static_cast<unsigned>(r.kind)].data(),
           std::string(fault_kind_names[static_cast<unsigned>(kind)]), where);
    equals(static_cast<unsigned>(r.stage), static_cast<unsigned>(stage), where);
    equals(r.level, level, where);
}

// A page, and a large leaf of each level given, for one kind of tables.
template <typename MakeContext>
void translates(const Layout& layout, std::initializer_list<unsigned> large, MakeContext&& make, u64 root_size = 4096) {
    Ram ram;
    Tables tables(ram, layout, 0, root_size);
    tables.map(iova, target);
    const Context context = make(tables.root());
    lands(ram, context, iova + 0xABC, target + 0xABC, layout.granule_lg2);
    for (const unsigned level : large) {
        const u64 size = bit(layout.span_lg2(level)), input = size * 3, output = size * 5;
        tables.map(input, output, level);
        for (const u64 offset : {u64{0}, u64{0x123}, size - 1})
            lands(ram, context, input + offset, output + offset, layout.span_lg2(level));
    }
}

void every_format_translates() {
    translates(layout::x86, {1, 2}, [](u64 root) { return stage1(x86_at(root)); });
    translates(layout::vtd, {1, 2}, [](u64 root) { return stage2(vtd_at(root)); });
    translates(layout::arm, {1, 2}, [](u64 root) { return stage1(arm_at(root)); });
    translates(layout::arm_stage2, {1, 2}, [](u64 root) { return stage2(arm_stage2_at(root)); });
    translates(layout::amd, {1, 2, 3}, [](u64 root) {
        fmt::AmdV1 f;
        f.table = root;
        return stage2(f);
    });
    translates(layout::riscv, {1, 2, 3}, [](u64 root) {
        fmt::Riscv f;
        f.table = root;
        return stage1(f);
    });
    translates(
        layout::riscv, {1, 2, 3},
        [](u64 root) {
            fmt::Riscv f;
            f.table = root;
            f.guest_stage = true;
            return stage2(f);
        },
        16384);
}

void granules() {
    for (const unsigned granule_lg2 : {14u, 16u}) {
        Layout l = layout::arm;
        l.granule_lg2 = static_cast<unsigned>(granule_lg2);
        l.top_level = granule_lg2 == 14 ? 3 : 2;
        Ram ram(0x8000'0000, 4 << 20);
        Tables tables(ram, l, 0, u64{1} << granule_lg2);
        const u64 page = bit(granule_lg2);
        tables.map(page * 7, page * 9);
        auto f = arm_at(tables.root());
        f.halves[0].granule_lg2 = static_cast<u8>(granule_lg2);
        lands(ram, stage1(f), page * 7 + 0x1234, page * 9 + 0x1234, granule_lg2);
    }
}

void upper_half() {
    Ram ram;
    Tables low(ram, layout::arm), high(ram, layout::arm);
    low.map(0x5000, 0x11000);
    high.map(0x5000, 0x22000);
    auto f = arm_at(low.root());
    f.has_upper = true;
    f.halves[1].table = high.root();
    lands(ram, stage1(f), 0x5000, 0x11000, 12);
    lands(ram, stage1(f), 0xFFFF'0000'0000'5000, 0x22000, 12);
}

void skipped_levels() {
    Ram ram;
    const u64 root = ram.table(), last = ram.table();
    fmt::AmdV1 f;
    f.table = root;
    ram[root] = last | 3ull << 61 | 1 << 9 | 1;  // from level 3 straight to level 0
    ram[last + 5 * 8] = 0x7000 | 3ull << 61 | 1;
    lands(ram, stage2(f), 0x5678, 0x7678, 12);
    refuses(walked(ram, stage2(f), 0x20'5678), FaultKind::malformed, Stage::stage2, 3);
}

void described() {
    Ram ram;
    fmt::Described f;
    f.table = ram.table();
    const u64 leaves = ram.table();
    f.level_count = 2;
    f.span[0] = 13, f.span[1] = 20, f.span[2] = 27;
    f.input_bits = 27;
    f.address_mask = below(40), f.address_shift = 8;
    f.present_mask = f.present_value = bit(63);
    ram[f.table + 3 * 8] = leaves >> 8 | bit(63);
    ram[leaves + 4 * 8] = 0xAB'C000 >> 8 | bit(63);
    lands(ram, stage1(f), 3 << 20 | 4 << 13 | 0x1FFF, 0xAB'C000 | 0x1FFF, 13);
    refuses(walked(ram, stage1(f), 5 << 20), FaultKind::translation, Stage::stage1, 1);
}

void swapped() {
    Ram ram;
    fmt::ArmStage1 f = arm_at(ram.table());
    f.swapped = f.hardware_access = true;
    f.halves[0].input_bits = 21;                                         // one level
    ram[f.halves[0].table + 2 * 8] = __builtin_bswap64(0x4000 | 0x843);  // AF clear
    lands(ram, stage1(f), 0x2123, 0x4123, 12);
    equals(ram[f.halves[0].table + 2 * 8], __builtin_bswap64(0x4000 | 0xC43));
}

void holes() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(iova, target);
    tables.map(iova + 0x1000, 0xFFFF'F000);  // an output in a hole is no business of the walk's
    lands(ram, stage1(x86_at(tables.root())), iova + 0x1000, 0xFFFF'F000, 12);
    ram[tables.entry(iova, 1)] = 0x4000'0007;
    const Result r = walked(ram, stage1(x86_at(tables.root())), iova);
    refuses(r, FaultKind::external_abort, Stage::stage1, 0);
    equals(r.entry_address, 0x4000'0000 + (iova >> 12 & 0x1FF) * 8);
    check(!r.top, "the top entry was read");
    check(walked(ram, stage1(x86_at(0x1000)), iova).top, "the top entry itself is in a hole");
}

void loops() {
    Ram ram;
    const u64 root = ram.table();
    for (unsigned i = 0; i < 512; ++i) ram[root + i * 8] = root | 0x67;  // every entry leads back
    const Result r = walked(ram, stage1(x86_at(root)), iova);
    check(r.ok(), "level 0 ends it, with the table as a page");
    equals(r.pa, root + (iova & 0xFFF));

    for (unsigned i = 0; i < 512; ++i)
        ram[root + i * 8] = root | 3ull << 61 | 4 << 9 | 1;  // AMD: always the same level
    fmt::AmdV1 f;
    f.table = root;
    refuses(walked(ram, stage2(f), iova), FaultKind::malformed, Stage::stage2, 3);
}

// A format that lies: its tables never fall.
struct Endless : fmt::X86 {
    static constexpr Step step(u64 raw, u64, unsigned level, WalkState&, u8) {
        return Step::table_at(0x8000'0000, level, raw);
    }
};

void levels_fall() {
    Ram ram;
    View view = ram.memory->view();
    Direct direct(view);
    Unobserved observer;
    StageOutput out;
    Result result;
    Endless endless;
    endless.table = 0x8000'0000;
    check(!walk_stage(endless, direct, 0, Purpose{.stage = Stage::stage1, .cache = {}}, observer, out, result),
          "the walk is refused");
    refuses(result, FaultKind::malformed, Stage::stage1, 3);
    equals(observer.loads, 1u);
}

void faults_tell() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(iova, target);
    ram[tables.entry(iova)] &= ~u64{2};
    const Result r = walked(ram, stage1(x86_at(tables.root())), iova + 8, write);
    refuses(r, FaultKind::permission, Stage::stage1, 0);
    equals(r.missing, write);
    equals(r.entry_address, tables.entry(iova));
    equals(r.entry_value, ram[tables.entry(iova)]);
    equals(r.ipa, iova + 8);
    equals(r.access, write);
    equals(r.rights.granted(0), read | execute);
    equals(ram[tables.entry(iova, 1)] & 0x20, 0x20u);  // the table above was used, and says so
}

void before_tables() {
    Ram ram;
    Tables tables(ram, layout::vtd);
    tables.map(0, target);
    ContextSettings settings;
    settings.rights = read;
    settings.input_bits = 39;
    const Context context({}, vtd_at(tables.root()), settings);
    refuses(walked(ram, context, 0, write), FaultKind::permission, Stage::none, 0);
    refuses(walked(ram, context, bit(39), write), FaultKind::input_size, Stage::none, 0);
    equals(walked(ram, context, 0).rights.granted(0), read);
}

void untranslated() {
    Ram ram;
    const Result r = walked(ram, Context({}, {}, {}), iova, write);
    check(r.ok(), "it passes");
    equals(r.pa, iova);
    equals(r.ipa, iova);
    equals(r.page_lg2, whole_lg2);
}

void blocked_output() {
    Ram ram;
    Tables tables(ram, layout::vtd);
    tables.map(0x1000, 0xFEE0'0000);
    tables.map(0x2000, 0xFEDF'F000);
    tables.map(0x20'0000, 0xFEE0'0000, 1);
    ContextSettings settings;
    settings.blocked_output = {0xFEE0'0000, 0xFEEF'FFFF};
    const Context context({}, vtd_at(tables.root()), settings);
    refuses(walked(ram, context, 0x1000), FaultKind::blocked_output, Stage::stage2, 0);
    refuses(walked(ram, context, 0x3F'F000), FaultKind::blocked_output, Stage::stage2, 1);  // the page touches it
    check(walked(ram, context, 0x2000).ok(), "the page beneath is free");
}

// Stage 1 of a guest whose memory starts at 0, `shift` beneath where it really lies.
struct Nest {
    static constexpr u64 shift = 0x8000'0000;

    Nest() {
        for (u64 page = 0; page < 0x4'0000; page += 0x1000) host.map(page, shift + page);
    }
    Context context(u8 stage1_rights = access::wants) {
        ContextSettings settings;
        settings.rights = stage1_rights;
        return {x86_at(guest.root()), second, settings};
    }

    Ram ram{shift};
    Tables guest{ram, layout::x86, ~shift + 1};
    Tables host{ram, layout::vtd};
    fmt::VtdSecondStage second = vtd_at(host.root());
};

void nested() {
    Nest n;
    n.guest.map(iova, 0x3'9000);
    const Result r = walked(n.ram, n.context(), iova + 0x10);
    check(r.ok(), "both stages translate");
    equals(r.ipa, 0x3'9010);
    equals(r.pa, n.shift + 0x3'9010);
    View view = n.ram.memory->view();
    Recorder recorder;
    Result explained;
    n.context().walk(view, {}, iova + 0x10, read, explained, recorder);
    equals(explained.pa, r.pa);
    equals(recorder.steps.size(), 24u);  // 4 entries behind 4 each, and 4 for the page
    equals(recorder.loads, 24u);
}

void nested_size() {
    Nest n;
    n.guest.map(0x20'0000, 0, 1);
    equals(walked(n.ram, n.context(), 0x20'0000).page_lg2, 12);
    n.host.map(0x4000'0000, 0x4000'0000, 2);
    n.guest.map(0x60'0000, 0x4000'0000, 1);
    equals(walked(n.ram, n.context(), 0x60'0000).page_lg2, 21);
}

void nested_faults() {
    Nest n;
    n.guest.map(iova, 0x3'9000);
    const u64 entry = n.guest.entry(iova), entry_ipa = entry - n.shift;

    n.ram[n.host.entry(0x3'9000)] &= ~u64{2};
    Result r = walked(n.ram, n.context(), iova, write);
    refuses(r, FaultKind::permission, Stage::stage2, 0);
    equals(static_cast<unsigned>(r.fault_class), static_cast<unsigned>(FaultClass::input));
    equals(r.ipa, 0x3'9000);
    equals(walked(n.ram, n.context(), iova).rights.granted(0), read | execute);

    n.second.accessed_dirty = false;
    n.ram[entry] &= ~u64{0x60};
    n.ram[n.host.entry(entry_ipa)] &= ~u64{2};  // stage 2 lets nobody write the table
    r = walked(n.ram, n.context(), iova);
    refuses(r, FaultKind::permission, Stage::stage2, 0);
    equals(static_cast<unsigned>(r.fault_class), static_cast<unsigned>(FaultClass::table));
    equals(r.missing, write);
    check(r.for_update && !r.for_top, "the accessed flag's store is what failed");
    equals(r.ipa, entry_ipa);

    n.ram[n.host.entry(entry_ipa)] = 0;
    r = walked(n.ram, n.context(), iova);
    refuses(r, FaultKind::translation, Stage::stage2, 0);
    check(!r.for_update, "the fetch failed");
    equals(r.ipa, entry_ipa);

    n.ram[n.host.entry(n.guest.root())] = 0;
    r = walked(n.ram, n.context(), iova);
    check(r.for_top, "stage 1's top entry was being fetched");
}

void nested_hole() {
    Nest n;
    n.guest.map(iova, 0x3'9000);
    n.host.map(n.guest.entry(iova) - n.shift, 0x1000);  // the table lies where no memory is
    const Result r = walked(n.ram, n.context(), iova);
    refuses(r, FaultKind::external_abort, Stage::stage1, 0);
    equals(r.entry_address, 0x1000 + (iova >> 12 & 0x1FF) * 8);
}

void dirty_both_stages() {
    Nest n;
    n.second.accessed_dirty = true;
    n.guest.map(iova, 0x3'9000);
    check(walked(n.ram, n.context(), iova).ok(), "a read");
    equals(n.ram[n.guest.entry(iova)] & 0x60, 0x20u);
    equals(n.ram[n.host.entry(0x3'9000)] & 0x300, 0x100u);
    equals(n.ram[n.host.entry(n.guest.entry(iova) - n.shift)] & 0x300,
           0x300u);  // the accessed flag was written through it
    check(walked(n.ram, n.context(), iova, write).ok(), "a write");
    equals(n.ram[n.guest.entry(iova)] & 0x60, 0x60u);
    equals(n.ram[n.host.entry(0x3'9000)] & 0x300, 0x300u);
}

void forbidden_store() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(iova, target);
    auto f = x86_at(tables.root());
    f.may_update = false;
    const Result r = walked(ram, stage1(f), iova);
    refuses(r, FaultKind::update_forbidden, Stage::stage1, 3);
    check(r.for_update, "it says that a store was meant");
    for (unsigned level = 0; level < 4; ++level) ram[tables.entry(iova, level)] |= 0x20;
    check(walked(ram, stage1(f), iova).ok(), "a read of what is accessed already needs no store");
    refuses(walked(ram, stage1(f), iova, write), FaultKind::update_forbidden, Stage::stage1, 0);
}

// One table behind callbacks, whose every compare-and-swap goes as the test says.
struct Outside {
    explicit Outside(std::function<std::optional<bool>(u64&)> exchange) {
        memory.add(
            {0, 0xFFF, nullptr, true,
             std::make_shared<const Callbacks>(Callbacks{[this](u64) { return std::optional(word); },
                                                         [this, exchange](u64, u64, u64) { return exchange(word); }}),
             nullptr});
        format = arm_at(0);
        format.halves[0].input_bits = 21;
        format.hardware_access = true;
    }
    Result walk() {
        View view = memory.view();
        Unobserved observer;
        Result result;
        stage1(format).walk(view, {}, 0, read | privileged, result, observer);
        return result;
    }
    Memory memory;
    u64 word = 0x803;  // a page, not yet accessed
    fmt::ArmStage1 format;
};

void lost_races() {
    int tries = 0;
    Outside sets_itself([&](u64& word) { return ++tries, word |= 0x400, std::optional(false); });
    check(sets_itself.walk().ok(), "the walk looks again, and finds the flag set");
    equals(tries, 1);

    // What the entry granted when the race was lost is forgotten.
    Outside opens([](u64& word) { return word = 0x7 | 0x20 | 0x2000, std::optional(false); });
    opens.word = 0x5 | 0x2000;
    fmt::X86 x86;
    x86.levels = 1;
    View view = opens.memory.view();
    Unobserved observer;
    Result result;
    stage1(x86).walk(view, {}, 0, read, result, observer);
    equals(result.rights.granted(0), read | write | execute);

    Outside unmaps([](u64& word) { return word = 0, std::optional(false); });
    refuses(unmaps.walk(), FaultKind::translation, Stage::stage1, 0);

    Outside never([](u64&) { return std::optional(false); });
    refuses(never.walk(), FaultKind::update_failed, Stage::stage1, 0);

    Outside aborts([](u64&) -> std::optional<bool> { return std::nullopt; });
    refuses(aborts.walk(), FaultKind::update_failed, Stage::stage1, 0);
    check(aborts.walk().for_update, "it says that a store was meant");
}

void override_access() {
    ContextSettings settings;
    settings.privileged = true;
    settings.instruction = true;
    const Context instruction({}, {}, settings);
    equals(instruction.overridden(read), execute | privileged);
    equals(instruction.overridden(write), write | privileged);
    settings.privileged = settings.instruction = false;
    const Context data({}, {}, settings);
    equals(data.overridden(execute | privileged), read);
    equals(Context({}, {}, {}).overridden(execute | privileged), execute | privileged);
}

void explained() {
    Ram ram;
    Tables tables(ram, layout::x86);
    tables.map(iova, target);
    Overlay overlay;
    View view = ram.memory->view(&overlay);
    Recorder recorder;
    Result result;
    const std::vector<u64> before = ram.words();
    stage1(x86_at(tables.root())).walk(view, {}, iova, write, result, recorder);
    equals(recorder.steps.size(), 4u);
    equals(recorder.steps[3].updated, recorder.steps[3].raw | 0x60);
    equals(recorder.steps[3].output, target);
    view.forget();
    check(ram.words() == before, "memory is as it was");
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"every format translates pages and large leaves", every_format_translates},
        {"Arm granules of 16 and 64 KiB translate", granules},
        {"each half of an Arm address space has its own tables", upper_half},
        {"AMD tables may skip levels over zero bits alone", skipped_levels},
        {"a described format goes by its masks and widths", described},
        {"big-endian entries are read and updated in their own order", swapped},
        {"a hole aborts the walk, and the fault says where", holes},
        {"tables that lead in circles still end", loops},
        {"a table of a level that does not fall is malformed", levels_fall},
        {"a fault tells its entry, what lacked and what was still granted", faults_tell},
        {"the context's own rights and width come before any table", before_tables},
        {"without a stage an access passes as it is", untranslated},
        {"a page that touches the blocked range is refused", blocked_output},
        {"a nested walk reads 24 entries", nested},
        {"the smaller page of both stages counts", nested_size},
        {"a stage-2 fault says for whose sake it came", nested_faults},
        {"a stage-1 table in a hole is stage 1's abort", nested_hole},
        {"a nested write makes both stages dirty, and the tables it updates", dirty_both_stages},
        {"a store that the configuration forbids is a fault of its own", forbidden_store},
        {"a store that lost against another writer is judged anew, not for ever", lost_races},
        {"a context may override privilege and kind; a write stays data", override_access},
        {"an explained walk lists its entries and can be undone", explained},
    });
}
