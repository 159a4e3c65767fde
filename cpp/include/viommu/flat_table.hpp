// A flat table beside stage 2: it takes over the pages whose numbers match a pattern, with one entry for each of them.
//
// All of it is told at run time. RISC-V has such tables for the interrupt files of guests (IOMMU 1.0, "MSI address
// translation").
#pragma once

#include <array>

#include "viommu/walk.hpp"

namespace viommu {

// One of the forms that an entry may have.
struct FlatForm {
    bool operator==(const FlatForm&) const = default;

    u64 mask = 0, value = 0;        // of word 0: what tells it from the others
    std::array<u64, 2> reserved{};  // bits of each word that must be zero
    u8 address_word = 0;
    u8 address_shift = 0;
    u64 address_mask = 0;
    u8 rights = access::wants;
    u8 attrs = 0;
    bool memory = true;  // else an access to the page is no access to where the address leads

    constexpr bool has(u64 word) const { return (word & mask) == value; }
};

struct FlatTable {
    bool operator==(const FlatTable&) const = default;

    static constexpr const char* name = "FlatTable";
    static constexpr unsigned most_forms = 4;

    u64 table = 0;
    u64 compared = 0, pattern = 0;  // page numbers: those with (number & compared) == pattern are its
    u64 indexed = 0;                // the bits of a page number that, put together, number the entry
    u8 words = 1;                   // 8-byte words of an entry: 1 or 2
    u8 output_bits = 64;
    bool swapped = false;
    u64 present_mask = 0, present_value = 0;  // of word 0
    u8 form_count = 0;
    std::array<FlatForm, most_forms> forms{};

    constexpr bool takes(u64 input) const { return ((input >> 12) & compared) == pattern; }
    constexpr u64 entry_address(u64 input) const {
        u64 index = 0;
        unsigned at = 0;
        for (u64 left = indexed; left; left &= left - 1, ++at)
            if ((input >> 12) & left & -left) index |= bit(at);
        return table | index * words * 8;
    }
    constexpr const FlatForm* form(u64 word) const {
        for (unsigned n = 0; n < form_count; ++n)
            if (forms[n].has(word)) return &forms[n];
        return nullptr;
    }
    constexpr u64 beyond() const { return ~below(output_bits); }
};

// Finds one page in a flat table; on a fault fills `result` and returns false. Nothing is stored.
template <typename Observer>
bool walk_flat(const FlatTable& flat, View& memory, u64 input, u8 access, const AddressRange* blocked, u8 page_lg2,
               Observer& observer, StageOutput& out, bool& elsewhere, Result& result) {
    constexpr u8 lg2 = 12;
    const u64 at = flat.entry_address(input);
    u64 word[2] = {};
    Rights rights;
    u64 output = 0;

    const auto decide = [&]() -> Step {
        if (at & flat.beyond()) return Step::refuse(FaultKind::address_size);
        for (unsigned n = 0; n < flat.words; ++n) {
            observer.loaded();
            if (!memory.load(at + n * 8, word[n])) return Step::refuse(FaultKind::external_abort);
            if (flat.swapped) word[n] = __builtin_bswap64(word[n]);
        }
        if ((word[0] & flat.present_mask) != flat.present_value) return Step::refuse(FaultKind::translation);
        const FlatForm* const form = flat.form(word[0]);
        if (!form) return Step::refuse(FaultKind::malformed);
        if ((word[0] & form->reserved[0]) | (word[1] & form->reserved[1])) return Step::refuse(FaultKind::reserved);
        rights = Rights::both(form->rights);
        if (const u8 missing = rights.missing(access)) return Step::refuse(FaultKind::permission, missing);
        const u64 frame = (word[form->address_word] & form->address_mask) << form->address_shift;
        if (frame & flat.beyond()) return Step::refuse(FaultKind::address_size);
        output = splice(frame, input, lg2);
        if (blocked && blocked->meets_page(output, std::min(lg2, page_lg2)))
            return Step::refuse(FaultKind::blocked_output);
        out = {.address = output,
               .raw = word[0],
               .entry_pa = at,
               .lg2 = lg2,
               .level = 0,
               .attrs = form->attrs,
               .rights = rights,
               .clean = false,
               .global = false};
        elsewhere = !form->memory;
        return Step::leaf_of(frame, lg2, word[0]);
    };
    const Step step = decide();
    if constexpr (Observer::enabled)
        for (unsigned n = 0; n < flat.words; ++n)
            observer.steps.push_back({FlatTable::name, Stage::flat, FaultClass::input, 0, lg2, rights.granted(access),
                                      n + 1 == flat.words ? step.verdict : Step::Verdict::table, step.fault, input,
                                      at + n * 8, at + n * 8, word[n], output, word[n], flat.swapped});
    if (step.verdict == Step::Verdict::leaf) return true;
    result.kind = step.fault;
    result.stage = Stage::flat;
    result.fault_class = FaultClass::input;
    result.level = 0;
    result.ipa = input;
    result.entry_address = at;
    result.entry_value = word[0];
    result.missing = step.missing;
    result.rights = rights;
    result.top = true;
    return false;
}

}  // namespace viommu
