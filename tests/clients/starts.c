/* Starts a program in the ways that there are: starts WAY PROGRAM. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char* words[] = {NULL, "one", "two", NULL};
static char* nothing[] = {NULL};

static void start(const char* way, const char* program) {
    const int fd = open(program, O_RDONLY | O_CLOEXEC);
    if (!strcmp(way, "execve")) execve(program, words, environ);
    if (!strcmp(way, "execv")) execv(program, words);
    if (!strcmp(way, "execvp")) execvp(program, words);
    if (!strcmp(way, "execvpe")) execvpe(program, words, environ);
    if (!strcmp(way, "execl")) execl(program, program, "one", "two", NULL);
    if (!strcmp(way, "execlp")) execlp(program, program, "one", "two", NULL);
    if (!strcmp(way, "execle")) execle(program, program, "one", "two", NULL, environ);
    if (!strcmp(way, "execveat")) execveat(AT_FDCWD, program, words, environ, 0);
    if (!strcmp(way, "descriptor")) execveat(fd, "", words, environ, AT_EMPTY_PATH);
    if (!strcmp(way, "fexecve")) fexecve(fd, words, environ);
    if (!strcmp(way, "number")) syscall(SYS_execve, program, words, environ);
    if (!strcmp(way, "number-at")) syscall(SYS_execveat, AT_FDCWD, program, words, environ, 0);
    if (!strcmp(way, "forgetful")) execve(program, words, nothing);
    if (!strcmp(way, "vfork")) {
        const pid_t child = vfork();
        if (!child) execv(program, words), _exit(1);
        waitpid(child, NULL, 0), _exit(3); /* as the program itself */
    }
    pid_t child;
    int status;
    if (!strcmp(way, "posix_spawn")) CHECK(!posix_spawn(&child, program, NULL, NULL, words, environ));
    if (!strcmp(way, "posix_spawnp")) CHECK(!posix_spawnp(&child, program, NULL, NULL, words, environ));
    CHECK(!strncmp(way, "posix", 5) && waitpid(child, &status, 0) == child);
    exit(WEXITSTATUS(status));
}

int main(int count, char** arguments) {
    CHECK(count == 3);
    words[0] = arguments[2];
    start(arguments[1], arguments[2]);
    return 1;
}
