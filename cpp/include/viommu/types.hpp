// The engine's vocabulary: accesses, rights, fault kinds and the result of one walk.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace viommu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr u64 bit(unsigned n) { return u64{1} << n; }
// All bits below n; n may be 64.
constexpr u64 below(unsigned n) { return n >= 64 ? ~u64{0} : bit(n) - 1; }
// Bits high..low, as specifications print them.
constexpr u64 bits(unsigned high, unsigned low) { return below(high + 1) & ~below(low); }

// What an access asks for. Rights use the first three bits.
namespace access {
inline constexpr u8 read = 1, write = 2, execute = 4, privileged = 8;
// A fetch of a table or configuration structure on behalf of stage 1 (Arm S2PTW looks at it).
inline constexpr u8 table_fetch = 16;
inline constexpr u8 wants = read | write | execute;
}  // namespace access

// Rights of both privileges, so that one cached entry serves either: unprivileged in bits 2:0, privileged in 5:3.
class Rights {
public:
    constexpr Rights() = default;
    constexpr Rights(u8 unprivileged, u8 privileged)
        : bits_(static_cast<u8>((unprivileged & 7) | (privileged & 7) << 3)) {}
    static constexpr Rights both(u8 rights) { return {rights, rights}; }
    static constexpr Rights all() { return both(7); }

    constexpr u8 granted(u8 access) const { return (access & access::privileged ? bits_ >> 3 : bits_) & 7; }
    constexpr u8 missing(u8 access) const { return access & access::wants & ~granted(access); }
    constexpr Rights without(Rights other) const { return raw(bits_ & ~other.bits_); }
    constexpr u8 unprivileged() const { return bits_ & 7; }
    constexpr u8 privileged() const { return bits_ >> 3; }
    constexpr u8 packed() const { return bits_; }
    static constexpr Rights of_packed(u8 packed) { return raw(packed & 0x3F); }
    friend constexpr Rights operator&(Rights a, Rights b) { return raw(a.bits_ & b.bits_); }

private:
    static constexpr Rights raw(unsigned bits) {
        Rights r;
        r.bits_ = static_cast<u8>(bits);
        return r;
    }
    u8 bits_ = 0;
};

// The accesses that something permits: bit n for `access` n (its lowest four bits).
using Accesses = u16;

constexpr Accesses accesses_of(Rights rights, bool writes) {
    Accesses permitted = 0;
    for (u8 access = 0; access < 16; ++access)
        if (!rights.missing(access) && (writes || !(access & access::write)))
            permitted = static_cast<Accesses>(permitted | 1u << access);
    return permitted;
}

enum class FaultKind : u8 {
    none,
    configuration,
    input_size,
    translation,
    permission,
    access_flag,
    address_size,
    external_abort,
    reserved,
    malformed,
    update_failed,
    update_forbidden,
    blocked_output,
};
inline constexpr std::array<std::string_view, 13> fault_kind_names{
    "none",          "configuration",    "input_size",     "translation", "permission",
    "access_flag",   "address_size",     "external_abort", "reserved",    "malformed",
    "update_failed", "update_forbidden", "blocked_output"};

// `flat`: a flat table that took a page over from stage 2.
enum class Stage : u8 { none, stage1, stage2, flat };
enum class FaultClass : u8 { input, table, configuration };

// log2 of the page of an untranslated access: all of the address space.
inline constexpr u8 whole_lg2 = 64;
inline constexpr u32 no_pasid = 0xFFFF'FFFF;

// What became of one access. Every field is told in _engine.pyi.
struct Result {
    u64 pa = 0;
    u64 iova = 0;
    u64 ipa = 0;
    u64 entry_address = 0;
    u64 entry_value = 0;
    FaultKind kind = FaultKind::none;
    Stage stage = Stage::none;
    FaultClass fault_class = FaultClass::input;
    u8 level = 0;
    u8 page_lg2 = 0;
    u8 attrs1 = 0;
    u8 attrs2 = 0;
    u8 missing = 0;
    u8 access = 0;
    Rights rights;
    u32 driver_bits = 0;  // the Context's
    bool top = false;
    bool for_top = false;
    bool for_update = false;
    bool clean = false;      // a write must walk again, to set a dirty bit: not to be cached as writable
    bool global = false;     // any stage-1 tag may use it
    bool elsewhere = false;  // leads to no memory: what becomes of the access is not the engine's to say

    bool ok() const { return kind == FaultKind::none; }
    bool leads_to_memory() const { return ok() && !elsewhere; }
};

}  // namespace viommu
