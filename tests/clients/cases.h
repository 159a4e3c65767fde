/* A client that has several cases: without arguments it lists them, with the name of one it runs that. */
#pragma once

#include <stdio.h>
#include <string.h>

struct named_case {
    const char* name;
    void (*run)(void);
};
static struct named_case cases[64];
static int cases_count;

#define CASE(label)                                                                                                    \
    static void case_##label(void);                                                                                    \
    __attribute__((constructor)) static void add_##label(void) {                                                       \
        cases[cases_count++] = (struct named_case){#label, case_##label};                                              \
    }                                                                                                                  \
    static void case_##label(void)

static inline int run_cases(int count, char** arguments) {
    for (int index = 0; index < cases_count; ++index) {
        if (count == 1)
            puts(cases[index].name);
        else if (!strcmp(arguments[1], cases[index].name))
            return cases[index].run(), 0;
    }
    return count == 1 ? 0 : 2;
}
