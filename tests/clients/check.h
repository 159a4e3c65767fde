/* What a client says where something is not as on a kernel. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #what, errno);                               \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)
#define CHECK_FAILS(code, what) CHECK((errno = 0, (what) == -1) && errno == (code))
