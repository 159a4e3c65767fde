/* What the bench measures of a program that is served: "ioctl" times IOAS_ALLOC and DESTROY, "trip" an empty message
 * over a socket to another process and back. Prints the nanoseconds in the middle. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TIMES 1500
#define MESSAGE 48

static uint64_t taken[TIMES];

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int compare(const void* one, const void* other) {
    const uint64_t a = *(const uint64_t*)one, b = *(const uint64_t*)other;
    return a < b ? -1 : a > b;
}

static void must(int holds) {
    if (!holds) exit(1);
}

static uint64_t two_ioctls(int iommu) {
    const uint64_t before = now();
    uint32_t alloc[3] = {sizeof alloc}, destroy[2] = {sizeof destroy};
    must(!ioctl(iommu, _IO(';', 0x81), alloc));
    destroy[1] = alloc[2];
    must(!ioctl(iommu, _IO(';', 0x80), destroy));
    return (now() - before) / 2;
}

static uint64_t trip(int end) {
    char message[MESSAGE] = {0};
    const uint64_t before = now();
    must(write(end, message, MESSAGE) == MESSAGE && read(end, message, MESSAGE) == MESSAGE);
    return now() - before;
}

static int echo(void) {
    int ends[2];
    must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    if (fork()) return close(ends[1]), ends[0];
    close(ends[0]);
    char message[MESSAGE];
    while (read(ends[1], message, MESSAGE) == MESSAGE) must(write(ends[1], message, MESSAGE) == MESSAGE);
    exit(0);
}

int main(int count, char** arguments) {
    must(count == 2);
    const int is_trip = !strcmp(arguments[1], "trip");
    const int end = is_trip ? echo() : open("/dev/iommu", O_RDWR);
    must(end >= 0);
    for (int turn = 0; turn < TIMES; ++turn) taken[turn] = is_trip ? trip(end) : two_ioctls(end);
    qsort(taken, TIMES, sizeof *taken, compare);
    printf("%lu\n", (unsigned long)taken[TIMES / 2]);
    return 0;
}
