// What an x86 instruction does to memory, as far as programs use such on device registers: how many bytes it loads or
// stores, and which general register leads it there.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

struct Operand {
    static constexpr int none = -1, of_string = -2;  // of_string: rsi or rdi, whichever holds the address

    unsigned size = 8;  // bytes; 8 where the instruction is not known
    bool loads = true;  // false: a plain store
    // The general register that the address is made of, which the instruction uses for nothing else, by its number in
    // the encoding. `none`: there is none, or nobody knows.
    int base = none;
    bool replaces_base = false;  // what is loaded goes to that register
};

// One instruction, read from its prefixes on. No more than 15 bytes are looked at.
class Instruction {
public:
    explicit Instruction(const u8* code) : code_(code) {}

    Operand operand() {
        read_prefixes();
        const u8 op = *code_++;
        if (op == 0xc5 || op == 0xc4) return vex(op == 0xc4);
        if (op == 0x0f) return two_bytes();
        return one_byte(op);
    }

private:
    static constexpr int rax = 0, rsp = 4, rdi = 7, rsi = 6;

    void read_prefixes() {
        for (;; ++code_) {
            if (*code_ == 0x66)
                narrow_ = true;
            else if (*code_ == 0x67)
                short_address_ = true;
            else if (*code_ == 0xf2)
                f2_ = true;
            else if (*code_ == 0xf3)
                f3_ = true;
            else if (*code_ != 0x2e && *code_ != 0x36 && *code_ != 0x3e && *code_ != 0x26 && *code_ != 0x64 &&
                     *code_ != 0x65 && *code_ != 0xf0)
                break;
        }
        if ((*code_ & 0xf0) != 0x40) return;
        has_rex_ = true;
        rex_ = *code_++;
    }

    bool wide() const { return rex_ & 8; }
    unsigned word() const { return wide() ? 8 : narrow_ ? 2 : 4; }
    int extended(int number, int bit) const { return number | ((rex_ & bit) ? 8 : 0); }
    int extension() const { return *code_ >> 3 & 7; }  // of the opcode, where no register is named
    int named() const { return extended(extension(), 4); }
    // The general register that is named as one of bytes: without REX, 4 to 7 are the upper bytes of 0 to 3.
    int named_byte() const { return !has_rex_ && extension() >= 4 ? extension() - 4 : named(); }

    // The base of the address, where changing it by some amount changes the address by that.
    int base() const {
        const int mode = *code_ >> 6, field = *code_ & 7;
        if (mode == 3 || short_address_) return Operand::none;
        int found = extended(field, 1);
        if (field == 4) {
            const int index = extended(code_[1] >> 3 & 7, 2);
            found = extended(code_[1] & 7, 1);
            if (((code_[1] & 7) == 5 && !mode) || (index == found && index != rsp)) return Operand::none;
        } else if (field == 5 && !mode) {
            return Operand::none;
        }
        return found == rsp ? Operand::none : found;
    }
    int base_but(int used) const { return base() == used ? Operand::none : base(); }

    Operand stored(unsigned size, int used) const { return {size, false, base_but(used), false}; }
    Operand changed(unsigned size, int used) const { return {size, true, base_but(used), false}; }
    // `target` takes all of what is loaded, and nothing of it stays.
    Operand loaded(unsigned size, int target) const { return {size, true, base(), base() == target}; }
    // Of immediate values, and registers that hold no addresses.
    Operand stored(unsigned size) const { return {size, false, base(), false}; }
    Operand changed(unsigned size) const { return {size, true, base(), false}; }

    Operand one_byte(u8 op) const {
        switch (op) {
        case 0x88: return stored(1, named_byte());
        case 0x89: return stored(word(), named());
        case 0xc6: return stored(1);
        case 0xc7: return stored(word());
        case 0x8a: return changed(1, named_byte());
        case 0x8b: return narrow_ ? changed(2, named()) : loaded(word(), named());
        case 0x63: return loaded(4, named());
        case 0x80: return changed(1);
        case 0x81:
        case 0x83: return changed(word());
        case 0x84:
        case 0x86: return changed(1, named_byte());
        case 0x85:
        case 0x87: return changed(word(), named());
        case 0xf6:
        case 0xfe: return unary(1, op);
        case 0xf7:
        case 0xff: return unary(word(), op);
        case 0xa0: return {1, true};
        case 0xa1: return {word(), true};
        case 0xa2: return {1, false};
        case 0xa3: return {word(), false};
        default: return op < 0x40 && (op & 7) < 4 ? arithmetic(op) : string(op);
        }
    }
    Operand arithmetic(u8 op) const { return op & 1 ? changed(word(), named()) : changed(1, named_byte()); }
    // Others multiply and divide by registers that are not named, or jump.
    Operand unary(unsigned size, u8 op) const {
        const int last = op < 0xfe ? 3 : 1;
        return {size, true, extension() <= last ? base() : Operand::none, false};
    }
    Operand string(u8 op) const {
        const unsigned size = op & 1 ? word() : 1;
        const auto at = [this](int number) { return short_address_ ? Operand::none : number; };
        switch (op & 0xfe) {
        case 0xa4: return {size, true, at(Operand::of_string), false};
        case 0xaa: return {size, false, at(rdi), false};
        case 0xac: return {size, true, at(rsi), false};
        default: return {};
        }
    }

    Operand two_bytes() {
        const u8 op = *code_++;
        switch (op) {
        case 0xb6:
        case 0xbe: return extended_load(1);
        case 0xb7:
        case 0xbf: return extended_load(2);
        case 0xc3: return stored(word(), named());
        case 0xb0: return compared(1, named_byte());
        case 0xb1: return compared(word(), named());
        case 0xc0: return changed(1, named_byte());
        case 0xc1: return changed(word(), named());
        case 0x38: return three_bytes();
        default: return vector(op, narrow_ || f3_);
        }
    }
    Operand extended_load(unsigned size) const { return narrow_ ? changed(size, named()) : loaded(size, named()); }
    Operand compared(unsigned size, int used) const {
        Operand found = changed(size, used);
        if (found.base == rax) found.base = Operand::none;
        return found;
    }
    Operand three_bytes() {
        const u8 op = *code_++;
        switch (op) {
        case 0xf0: return narrow_ ? changed(2, named()) : loaded(word(), named());
        case 0xf1: return stored(word(), named());
        case 0xf9: return stored(word(), named());
        case 0xf8: {  // to where a register says, from memory of the program's
            const int used = base(), index = (*code_ & 7) == 4 ? extended(code_[1] >> 3 & 7, 2) : Operand::none;
            const bool alone = !short_address_ && named() != used && named() != index && named() != rsp;
            return {64, false, alone ? named() : Operand::none, false};
        }
        default: return {};
        }
    }

    Operand vector(u8 op, bool known_width) const {
        const bool scalar = f2_ || f3_;
        switch (op) {
        case 0x10: return changed(f2_ ? 8 : f3_ ? 4 : 16);
        case 0x11: return stored(f2_ ? 8 : f3_ ? 4 : 16);
        case 0x28: return changed(16);
        case 0x6f: return changed(known_width ? 16 : 8);
        case 0x29:
        case 0x2b: return stored(16);
        case 0x7f:
        case 0xe7: return stored(known_width ? 16 : 8);
        case 0xd6: return stored(8);
        case 0x6e: return changed(wide() ? 8 : 4);
        case 0x7e: return scalar ? changed(8) : stored(wide() ? 8 : 4);
        default: return {};
        }
    }

    // Moves of the first map; others are not known.
    Operand vex(bool long_form) {
        const u8 first = *code_++, last = long_form ? *code_++ : first;
        has_rex_ = true;
        rex_ = static_cast<u8>(0x40 | (first & 0x80 ? 0 : 4));
        if (long_form) rex_ |= (first & 0x40 ? 0 : 2) | (first & 0x20 ? 0 : 1) | (last & 0x80 ? 8 : 0);
        if (long_form && (first & 31) != 1) return {};
        const unsigned prefix = last & 3;
        narrow_ = prefix == 1, f3_ = prefix == 2, f2_ = prefix == 3;
        Operand found = vector(*code_++, true);
        if (found.size == 16 && last & 4) found.size = 32;
        return found;
    }

    const u8* code_;
    u8 rex_ = 0;
    bool has_rex_ = false, narrow_ = false, short_address_ = false, f2_ = false, f3_ = false;
};

// `code` is at the instruction.
inline Operand operand_of(const u8* code) { return Instruction(code).operand(); }

}  // namespace viommu::shim
