// Files that are cut short under a mapping: who touches what is gone finds empty memory, and lives.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "check.hpp"
#include "viommu/file_guard.hpp"

using namespace viommu;
using namespace viommu::test;

namespace {

constexpr u64 page = 4096;

struct Mapped {
    explicit Mapped(u64 pages) : fd(memfd_create("file", MFD_CLOEXEC)), length(pages * page) {
        check(!ftruncate(fd, static_cast<off_t>(length)), "no room");
        bytes = static_cast<volatile char*>(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        FileGuard::only().add(start(), length);
    }
    ~Mapped() {
        FileGuard::only().remove(start());
        munmap(const_cast<char*>(bytes), length);
        close(fd);
    }
    void cut(u64 pages) const { check(!ftruncate(fd, static_cast<off_t>(pages * page)), "not cut"); }
    u64 start() const { return reinterpret_cast<u64>(bytes); }

    int fd;
    u64 length;
    volatile char* bytes;
};

void what_is_gone_is_empty_and_may_be_stored_to() {
    const Mapped mapped(4);
    mapped.bytes[0] = 'a';
    mapped.bytes[3 * page] = 'd';
    mapped.cut(1);
    check(FileGuard::only().is_whole(mapped.start()), "nobody has noticed yet");
    check(mapped.bytes[3 * page] == 0, "not empty");
    check(!FileGuard::only().is_whole(mapped.start()), "somebody has");
    mapped.bytes[2 * page] = 'c';
    check(mapped.bytes[2 * page] == 'c' && mapped.bytes[0] == 'a', "what is left, and what was stored");
}

void threads_may_touch_it_together() {
    const Mapped mapped(64);
    mapped.cut(0);
    std::vector<std::thread> threads;
    for (int number = 0; number < 4; ++number)
        threads.emplace_back([&] {
            for (u64 at = 0; at < mapped.length; at += page) mapped.bytes[at] = 'x';
        });
    for (std::thread& thread : threads) thread.join();
    check(mapped.bytes[63 * page] == 'x', "a store is gone");
}

template <typename Act> int signal_of(Act&& act) {
    const pid_t child = fork();
    if (!child) {
        act();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void what_is_not_guarded_ends_the_process_as_ever() {
    const Mapped guarded(1);
    const int other = memfd_create("other", MFD_CLOEXEC);
    auto* const bytes = static_cast<volatile char*>(mmap(nullptr, page, PROT_READ, MAP_SHARED, other, 0));
    check(signal_of([&] { static_cast<void>(bytes[0]); }) == SIGBUS, "a mapping that nobody guards");
    check(signal_of([] { raise(SIGBUS); }) == SIGBUS, "a signal that somebody sent");
    close(other);
}

volatile int taken = 0;

void handlers_of_before_get_what_is_theirs() {
    std::signal(SIGBUS, [](int number) { taken = number; });
    const Mapped mapped(1);
    mapped.cut(0);
    check(mapped.bytes[0] == 0 && !taken, "ours");
    raise(SIGBUS);
    check(taken == SIGBUS, "theirs");
}

struct sigaction found;

// As crash reporters do: it lets go of the signal, and sends it to whoever had it before.
void report(int number) {
    taken = taken + 1;
    sigaction(number, &found, nullptr);
    raise(number);
}

void handlers_that_let_go_are_not_called_again() {
    const int ended_by = signal_of([] {
        std::signal(SIGBUS, SIG_DFL);
        const Mapped before(1);
        struct sigaction reporter{};
        reporter.sa_handler = [](int number) { taken < 3 ? report(number) : _exit(1); };
        sigaction(SIGBUS, &reporter, &found);
        const Mapped after(1);
        taken = 0;
        raise(SIGBUS);
    });
    check(ended_by == SIGBUS, "it went round");
}

}  // namespace

int main() {
    return run({
        {"handlers that let go are not called again", handlers_that_let_go_are_not_called_again},
        {"what is gone is empty, and may be stored to", what_is_gone_is_empty_and_may_be_stored_to},
        {"threads may touch it together", threads_may_touch_it_together},
        {"what is not guarded ends the process as ever", what_is_not_guarded_ends_the_process_as_ever},
        {"handlers of before get what is theirs", handlers_of_before_get_what_is_theirs},
    });
}
