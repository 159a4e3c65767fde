// How many bytes of memory an x86 instruction loads or stores, as far as programs use such on device registers.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

struct Operand {
    unsigned size = 8;  // bytes; 8 where the instruction is not known
    bool loads = true;  // false: a plain store
};

inline Operand vector_operand(const u8* code, bool scalar_double, bool scalar_single) {
    switch (code[0]) {
    case 0x10:
    case 0x11: return {scalar_double ? 8u : scalar_single ? 4u : 16u, code[0] == 0x10};
    case 0x28:
    case 0x6f: return {16, true};
    case 0x29:
    case 0x7f:
    case 0xe7:
    case 0x2b: return {16, false};
    case 0xd6: return {8, false};
    default: return {};
    }
}

// `code` is at the instruction; no more than 15 bytes of it are looked at.
inline Operand operand_of(const u8* code) {
    bool narrow = false, wide = false, f2 = false, f3 = false;
    for (;; ++code) {
        if (*code == 0x66)
            narrow = true;
        else if (*code == 0xf2)
            f2 = true;
        else if (*code == 0xf3)
            f3 = true;
        else if (*code != 0x2e && *code != 0x36 && *code != 0x3e && *code != 0x26 && *code != 0x64 && *code != 0x65 &&
                 *code != 0x67 && *code != 0xf0)
            break;
    }
    if ((*code & 0xf0) == 0x40) wide = *code++ & 8;
    const unsigned word = wide ? 8 : narrow ? 2 : 4;
    const u8 op = *code++;
    switch (op) {
    case 0x88:
    case 0xc6:
    case 0xaa:
    case 0xa4:
    case 0xa2: return {1, op == 0xa4};
    case 0x89:
    case 0xc7:
    case 0xab:
    case 0xa5:
    case 0xa3: return {word, op == 0xa5};
    case 0x8a:
    case 0x80:
    case 0xf6:
    case 0x84:
    case 0x86: return {1, true};
    case 0x8b:
    case 0x81:
    case 0x83:
    case 0xf7:
    case 0x85:
    case 0x87: return {word, true};
    case 0x63: return {4, true};
    case 0xc5: return {code[0] & 4 ? 32u : 16u, code[1] != 0x29 && code[1] != 0x7f && code[1] != 0x11};
    case 0xc4: return {code[1] & 4 ? 32u : 16u, code[2] != 0x29 && code[2] != 0x7f && code[2] != 0x11};
    case 0x0f: break;
    default: return op < 0x40 && (op & 7) < 4 ? Operand{op & 1 ? word : 1, true} : Operand{};
    }
    switch (code[0]) {
    case 0xb6:
    case 0xbe: return {1, true};
    case 0xb7:
    case 0xbf: return {2, true};
    case 0xc3: return {word, false};
    case 0x6e:
    case 0x7e: return {f3 ? 8u : wide ? 8u : 4u, code[0] == 0x6e || f3};
    case 0x38: return code[1] == 0xf8 ? Operand{64, false} : code[1] == 0xf9 ? Operand{word, false} : Operand{};
    default: return vector_operand(code, f2, f3);
    }
}

}  // namespace viommu::shim
