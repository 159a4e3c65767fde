/* Records what a program and the kernel say to each other on /dev/iommu, for `viommu oracle` to replay.
 *
 *   cc -O2 -shared -fPIC -o recorder.so recorder.c -ldl
 *   IOMMUFD_RECORDING=my.jsonl LD_PRELOAD=$PWD/recorder.so ./my-program
 *   viommu oracle my.jsonl
 *
 * One JSON object a line: every open, ioctl, read, write, poll, mmap and close of /dev/iommu, /dev/vfio/vfio and of the
 * fds that they give. User memory is not told: a replay takes all of it for mapped. One process; threads are fine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 4096, SHOWN = 1 << 16 };

static const char *kinds[FDS];      /* what an fd is, NULL: not ours */
static const char *test = "recorded";
static FILE *out;
static unsigned long sequence;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                                \
    static type (*real)(__VA_ARGS__);                                        \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void begin(void)
{
    pthread_mutex_lock(&lock);
    if (out) return;
    const char *path = getenv("IOMMUFD_RECORDING");
    out = fopen(path ? path : "iommufd.jsonl", "we");
    if (!out) abort();
    setvbuf(out, NULL, _IOLBF, 0);
    if (getenv("IOMMUFD_TEST")) test = getenv("IOMMUFD_TEST");
}

/* Leaves the program's errno as the call left it. */
static void end(long ret, int error)
{
    const char *name = ret < 0 ? strerrorname_np(error) : "0";
    fprintf(out, ",\"ret\":%ld,\"errno\":\"%s\"}\n", ret, name ? name : "?");
    pthread_mutex_unlock(&lock);
    errno = error;
}

static void head(const char *call, int fd)
{
    fprintf(out, "{\"test\":\"%s\",\"seq\":%lu,\"proc\":0,\"call\":\"%s\"", test, sequence++, call);
    if (fd >= 0) fprintf(out, ",\"fd\":%d,\"kind\":\"%s\"", fd, kinds[fd]);
}

/* Copies through the kernel, so that a bad pointer is told, not followed. */
static long peek(uint64_t address, void *to, size_t length)
{
    struct iovec ours = {to, length}, theirs = {(void *)(uintptr_t)address, length};
    long got = process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0);
    return got < 0 ? 0 : got;
}

static void hex(const char *field, const uint8_t *data, size_t length)
{
    fprintf(out, ",\"%s\":\"", field);
    for (size_t i = 0; i < length; i++) fprintf(out, "%02x", data[i]);
    fputc('"', out);
}

static void blob(const char *field, uint64_t address, uint64_t length)
{
    static uint8_t data[SHOWN];
    if (!address) { fprintf(out, ",\"%s\":null", field); return; }
    long got = peek(address, data, length < SHOWN ? length : SHOWN);
    if (!got && length) fprintf(out, ",\"%s\":\"EFAULT\"", field);
    else hex(field, data, got);
    if (length > SHOWN) fprintf(out, ",\"%s_len\":%llu", field, (unsigned long long)length);
}

static uint64_t word(const uint8_t *from, int offset, int size)
{
    uint64_t value = 0;
    memcpy(&value, from + offset, size);
    return value;
}

/* Ioctls by number: their names, where a pointer lies in them, and whether the kernel reads (1) or writes (2) there. */
static const struct command { unsigned nr; const char *name; int pointer, way; } commands[] = {
    {0x80, "IOMMU_DESTROY"}, {0x81, "IOMMU_IOAS_ALLOC"}, {0x82, "IOMMU_IOAS_ALLOW_IOVAS", 16, 1},
    {0x83, "IOMMU_IOAS_COPY"}, {0x84, "IOMMU_IOAS_IOVA_RANGES", 16, 2}, {0x85, "IOMMU_IOAS_MAP"},
    {0x86, "IOMMU_IOAS_UNMAP"}, {0x87, "IOMMU_OPTION"}, {0x88, "IOMMU_VFIO_IOAS"},
    {0x89, "IOMMU_HWPT_ALLOC", 32, 1}, {0x8a, "IOMMU_GET_HW_INFO", 16, 3},
    {0x8b, "IOMMU_HWPT_SET_DIRTY_TRACKING"}, {0x8c, "IOMMU_HWPT_GET_DIRTY_BITMAP", 40, 2},
    {0x8d, "IOMMU_HWPT_INVALIDATE", 8, 1}, {0x8e, "IOMMU_FAULT_QUEUE_ALLOC"}, {0x8f, "IOMMU_IOAS_MAP_FILE"},
    {0x90, "IOMMU_VIOMMU_ALLOC", 32, 3}, {0x91, "IOMMU_VDEVICE_ALLOC"}, {0x92, "IOMMU_IOAS_CHANGE_PROCESS"},
    {0x93, "IOMMU_VEVENTQ_ALLOC"}, {0x94, "IOMMU_HW_QUEUE_ALLOC"},
};

static const struct command *command_of(unsigned long number)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if ((number & 0xffffffff) == (0x3b00 | commands[i].nr)) return &commands[i];
    return NULL;
}

static uint64_t blob_length(unsigned nr, const uint8_t *s)
{
    switch (nr) {
    case 0x82: case 0x84: return word(s, 8, 4) * 16;
    case 0x89: return word(s, 28, 4);
    case 0x8a: return word(s, 12, 4);
    case 0x8c: return word(s, 32, 8) ? (word(s, 24, 8) / word(s, 32, 8) + 7) / 8 : 0;
    case 0x8d: return word(s, 20, 4) * word(s, 24, 4);
    default: return word(s, 24, 4);
    }
}

static void adopt(int fd, const char *kind)
{
    if (fd >= 0 && fd < FDS) kinds[fd] = kind;
}

static int is_ours(int fd)
{
    return fd >= 0 && fd < FDS && kinds[fd];
}

static int record_open(const char *path, int flags, int fd, int error)
{
    begin();
    fprintf(out, "{\"test\":\"%s\",\"seq\":%lu,\"proc\":0,\"call\":\"open\",\"path\":\"%s\",\"flags\":\"%#x\"", test,
            sequence++, path, flags);
    if (fd >= 0) adopt(fd, strcmp(path, "/dev/iommu") ? "vfio" : "iommufd");
    end(fd, error);
    return fd;
}

static int is_node(const char *path)
{
    return path && (!strcmp(path, "/dev/iommu") || !strcmp(path, "/dev/vfio/vfio"));
}

#define OPENS(name)                                                          \
    int name(const char *path, int flags, ...)                               \
    {                                                                        \
        REAL(int, #name, const char *, int, ...);                            \
        va_list more;                                                        \
        va_start(more, flags);                                               \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                        \
        int fd = real(path, flags, mode), error = errno;                     \
        return is_node(path) ? record_open(path, flags, fd, error) : fd;     \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                       \
    int name(int at, const char *path, int flags, ...)                       \
    {                                                                        \
        REAL(int, #name, int, const char *, int, ...);                       \
        va_list more;                                                        \
        va_start(more, flags);                                               \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                        \
        int fd = real(at, path, flags, mode), error = errno;                 \
        return is_node(path) ? record_open(path, flags, fd, error) : fd;     \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int ioctl(int fd, unsigned long number, ...)
{
    REAL(int, "ioctl", int, unsigned long, ...);
    va_list more;
    va_start(more, number);
    uint64_t argument = va_arg(more, unsigned long);
    va_end(more);
    if (!is_ours(fd)) return real(fd, number, argument);

    static uint8_t before[SHOWN], after[SHOWN];
    begin();
    head("ioctl", fd);
    const struct command *command = command_of(number);
    fprintf(out, ",\"cmd\":\"%#lx\",\"name\":\"%s\"", number, command ? command->name : "UNKNOWN");
    uint32_t size = 0;
    long had = 0;
    if (peek(argument, &size, 4) == 4) had = peek(argument, before, size < 4 ? 4 : size < SHOWN ? size : SHOWN);
    int points = had && command && command->pointer && had >= command->pointer + 8;
    if (!had) {
        if (argument) fprintf(out, ",\"arg\":%llu", (unsigned long long)argument);
        else fprintf(out, ",\"arg\":null");
    } else {
        fprintf(out, ",\"size\":%u", size);
        hex("in", before, had);
    }
    if (points && command->way & 1 && blob_length(command->nr, before))
        blob("data_in", word(before, command->pointer, 8), blob_length(command->nr, before));
    int result = real(fd, number, argument), error = errno;
    if (had && peek(argument, after, had) == had && memcmp(before, after, had)) hex("out", after, had);
    if (points && command->way & 2 && blob_length(command->nr, before)) {
        uint64_t length = blob_length(command->nr, before);
        if (command->nr == 0x84 && word(after, 8, 4) * 16 < length) length = word(after, 8, 4) * 16;
        blob("data_out", word(before, command->pointer, 8), length);
    }
    if (!result && number == 0x3b8e) adopt(word(after, 12, 4), "fault");
    if (!result && number == 0x3b93) adopt(word(after, 24, 4), "veventq");
    end(result, error);
    return result;
}

ssize_t read(int fd, void *buffer, size_t count)
{
    REAL(ssize_t, "read", int, void *, size_t);
    if (!is_ours(fd)) return real(fd, buffer, count);
    begin();
    head("read", fd);
    fprintf(out, ",\"count\":%zu", count);
    ssize_t result = real(fd, buffer, count);
    int error = errno;
    if (result > 0) hex("data_out", buffer, result);
    end(result, error);
    return result;
}

ssize_t write(int fd, const void *buffer, size_t count)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_ours(fd)) return real(fd, buffer, count);
    begin();
    head("write", fd);
    fprintf(out, ",\"count\":%zu", count);
    blob("data_in", (uintptr_t)buffer, count);
    ssize_t result = real(fd, buffer, count);
    end(result, errno);
    return result;
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    REAL(int, "poll", struct pollfd *, nfds_t, int);
    int result = real(fds, count, timeout), error = errno, ours = 0;
    for (nfds_t i = 0; i < count; i++) ours |= is_ours(fds[i].fd);
    if (!ours) return result;
    begin();
    head("poll", -1);
    fprintf(out, ",\"timeout\":%d,\"fds\":[", timeout);
    int ready = 0;
    const char *comma = "";
    for (nfds_t i = 0; i < count; i++) {
        if (!is_ours(fds[i].fd)) continue;
        fprintf(out, "%s{\"fd\":%d,\"kind\":\"%s\",\"events\":%d,\"revents\":%d}", comma, fds[i].fd, kinds[fds[i].fd],
                fds[i].events, fds[i].revents);
        ready += !!fds[i].revents;
        comma = ",";
    }
    fputc(']', out);
    end(result < 0 ? result : ready, error);
    return result;
}

#define MAPS(name, type)                                                     \
    void *name(void *at, size_t length, int prot, int flags, int fd, type offset) \
    {                                                                        \
        REAL(void *, #name, void *, size_t, int, int, int, type);            \
        if (!is_ours(fd)) return real(at, length, prot, flags, fd, offset);  \
        begin();                                                             \
        head("mmap", fd);                                                    \
        fprintf(out, ",\"length\":%zu,\"prot\":%d,\"flags\":%d,\"offset\":%lld", length, prot, flags, (long long)offset); \
        void *result = real(at, length, prot, flags, fd, offset);            \
        end(result == MAP_FAILED ? -1 : 0, errno);                           \
        return result;                                                       \
    }
MAPS(mmap, off_t)
MAPS(mmap64, off64_t)

int close(int fd)
{
    REAL(int, "close", int);
    if (!is_ours(fd)) return real(fd);
    begin();
    head("close", fd);
    kinds[fd] = NULL;
    int result = real(fd);
    end(result, errno);
    return result;
}
