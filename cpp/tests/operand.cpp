// What the shim reads of an instruction is what the assembler was told.
#include "../shim/operand.hpp"

#include "check.hpp"

#if defined(__x86_64__)

using namespace viommu::shim;
using namespace viommu::test;

namespace {

enum : int { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };
constexpr int none = Operand::none, of_string = Operand::of_string;
constexpr bool stores = false, loads = true;

struct Row {
    const char* text;
    const u8* code;
    unsigned size;
    bool loads;
    int base;
    bool replaces;
};

// The assembler's bytes of one instruction.
#define CODE(text)                                                                                                     \
    [] {                                                                                                               \
        const u8* code;                                                                                                \
        __asm__(".pushsection .rodata\n771: " text "\n.skip 16, 0x90\n.popsection\nleaq 771b(%%rip), %0"               \
                : "=r"(code));                                                                                         \
        return code;                                                                                                   \
    }()
#define ROW(text, ...)                                                                                                 \
    Row { text, CODE(text), __VA_ARGS__ }

void agree(std::initializer_list<Row> rows, Where where = Where::current()) {
    for (const Row& row : rows) {
        const Operand found = operand_of(row.code);
        if (found.size == row.size && found.loads == row.loads && found.base == row.base &&
            found.replaces_base == row.replaces)
            continue;
        fail(std::string(row.text) + ": size " + std::to_string(found.size) + ", loads " + std::to_string(found.loads) +
                 ", base " + std::to_string(found.base) + ", replaces " + std::to_string(found.replaces_base),
             where);
    }
}

void moves() {
    agree({ROW("movl %%eax, (%%rbx)", 4, stores, rbx, false), ROW("movq %%rax, 8(%%rbx)", 8, stores, rbx, false),
           ROW("movw %%ax, 0x1000(%%r13)", 2, stores, r13, false), ROW("movb %%al, (%%r12)", 1, stores, r12, false),
           ROW("movl $5, (%%rdi)", 4, stores, rdi, false), ROW("movq $5, (%%r8)", 8, stores, r8, false),
           ROW("movb $5, 3(%%rbp)", 1, stores, rbp, false), ROW("movw $5, (%%r15)", 2, stores, r15, false),
           ROW("movl (%%rbx), %%eax", 4, loads, rbx, false), ROW("movl (%%rax), %%eax", 4, loads, rax, true),
           ROW("movq (%%r9), %%r9", 8, loads, r9, true), ROW("movzbl (%%rdx), %%edx", 1, loads, rdx, true),
           ROW("movzwl (%%rdx), %%ecx", 2, loads, rdx, false), ROW("movsbl (%%rdx), %%ecx", 1, loads, rdx, false),
           ROW("movslq (%%rdx), %%rdx", 4, loads, rdx, true), ROW("movb (%%rcx), %%al", 1, loads, rcx, false),
           ROW("movbe (%%rsi), %%eax", 4, loads, rsi, false), ROW("movnti %%rax, (%%rsi)", 8, stores, rsi, false)});
}

void registers_that_are_used_twice() {
    agree({ROW("movq %%rax, (%%rax)", 8, stores, none, false), ROW("movb %%ah, (%%rax)", 1, stores, none, false),
           ROW("movb %%bh, (%%rax)", 1, stores, rax, false), ROW("movb %%sil, (%%rdx)", 1, stores, rdx, false),
           ROW("movw (%%rax), %%ax", 2, loads, none, false), ROW("movb (%%rax), %%al", 1, loads, none, false),
           ROW("addq (%%rcx), %%rcx", 8, loads, none, false), ROW("addl %%eax, (%%rcx)", 4, loads, rcx, false),
           ROW("xchgl %%ecx, (%%rcx)", 4, loads, none, false), ROW("mull (%%rbx)", 4, loads, none, false),
           ROW("lock cmpxchgl %%ecx, (%%rax)", 4, loads, none, false),
           ROW("lock cmpxchgq %%rcx, (%%rdi)", 8, loads, rdi, false),
           ROW("movl (%%rbx,%%rbx), %%eax", 4, loads, none, false)});
}

void addresses() {
    agree({ROW("movl %%eax, (%%rbx,%%rcx,4)", 4, stores, rbx, false),
           ROW("movl %%eax, (%%r11,%%r12,8)", 4, stores, r11, false),
           ROW("movl %%eax, 0x100(%%r12)", 4, stores, r12, false),
           ROW("movl %%eax, (,%%rcx,4)", 4, stores, none, false), ROW("movl %%eax, 0x1000", 4, stores, none, false),
           ROW("movl %%eax, 0(%%rip)", 4, stores, none, false), ROW("movl %%eax, (%%ebx)", 4, stores, none, false),
           ROW("movl %%eax, (%%rsp)", 4, stores, none, false), ROW("movl %%eax, %%fs:(%%rbx)", 4, stores, rbx, false),
           ROW("movabsl %%eax, 0x1", 4, stores, none, false)});
}

void changes() {
    agree({ROW("orl $1, (%%rbx)", 4, loads, rbx, false), ROW("andq $0x1000, (%%rbx)", 8, loads, rbx, false),
           ROW("cmpb $1, (%%rbx)", 1, loads, rbx, false), ROW("testl %%eax, (%%rbx)", 4, loads, rbx, false),
           ROW("testb $1, (%%rbx)", 1, loads, rbx, false), ROW("notl (%%rbx)", 4, loads, rbx, false),
           ROW("incw (%%rbx)", 2, loads, rbx, false), ROW("lock xaddl %%eax, (%%rbx)", 4, loads, rbx, false),
           ROW("cmpl (%%rbx), %%eax", 4, loads, rbx, false), ROW("subl %%eax, (%%rbx)", 4, loads, rbx, false)});
}

void strings() {
    agree({ROW("stosl", 4, stores, rdi, false), ROW("rep stosq", 8, stores, rdi, false),
           ROW("rep movsb", 1, loads, of_string, false), ROW("lodsw", 2, loads, rsi, false)});
}

void vectors() {
    agree({ROW("movups %%xmm0, (%%rbx)", 16, stores, rbx, false), ROW("movdqa (%%rbx), %%xmm1", 16, loads, rbx, false),
           ROW("movdqu %%xmm9, (%%r10)", 16, stores, r10, false), ROW("movsd (%%rbx), %%xmm0", 8, loads, rbx, false),
           ROW("movss %%xmm0, (%%rbx)", 4, stores, rbx, false), ROW("movq %%xmm0, (%%rbx)", 8, stores, rbx, false),
           ROW("movq (%%rbx), %%xmm0", 8, loads, rbx, false), ROW("movd (%%rbx), %%xmm0", 4, loads, rbx, false),
           ROW("movd %%xmm0, (%%rbx)", 4, stores, rbx, false), ROW("movq (%%rbx), %%mm0", 8, loads, rbx, false),
           ROW("movntdq %%xmm0, (%%rbx)", 16, stores, rbx, false),
           ROW("vmovdqu %%ymm0, (%%rbx)", 32, stores, rbx, false), ROW("vmovdqu (%%r9), %%xmm10", 16, loads, r9, false),
           ROW("vmovups %%ymm0, (%%r9,%%r10)", 32, stores, r9, false)});
}

void direct_stores() {
    agree({ROW("movdir64b (%%rcx), %%rdx", 64, stores, rdx, false),
           ROW("movdir64b (%%rdx), %%rdx", 64, stores, none, false),
           ROW("movdiri %%rax, (%%rbx)", 8, stores, rbx, false)});
}

void what_is_not_known() {
    agree({ROW("xlatb", 8, loads, none, false), ROW("shll $3, (%%rax)", 8, loads, none, false)});
}

}  // namespace

int main() {
    return run({
        {"moves tell their size, direction and base", moves},
        {"a register that is used for more than the address is no base", registers_that_are_used_twice},
        {"addresses without a base that can be changed have none", addresses},
        {"what changes memory loads it first", changes},
        {"strings go by rsi and rdi", strings},
        {"vectors are moved whole", vectors},
        {"direct stores have their size", direct_stores},
        {"others are taken for loads of 8 bytes", what_is_not_known},
    });
}

#else

int main() { return 0; }

#endif
