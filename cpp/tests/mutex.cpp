// The engine lock: nobody is inside beside another, whoever is favoured, and however that ends.
#include "viommu/engine_mutex.hpp"

#include <mutex>
#include <vector>

#include "check.hpp"

using namespace viommu;
using namespace viommu::test;

namespace {

struct Guarded {
    EngineMutex mutex;
    u64 count = 0;  // no atomic: the lock is what keeps it whole

    void add(u64 times) {
        for (u64 i = 0; i < times; ++i) {
            std::scoped_lock lock(mutex);
            ++count;
        }
    }
    u64 add_where_free(u64 times) {
        u64 added = 0;
        for (u64 i = 0; i < times; ++i) {
            std::unique_lock lock(mutex, std::try_to_lock);
            if (!lock) continue;  // adding nothing would store as well
            ++count;
            ++added;
        }
        return added;
    }
};

void another_thread_may_come_at_any_time() {
    for (unsigned round = 0; round < 200; ++round) {
        Guarded guarded;
        std::thread alone([&] { guarded.add(20000); });
        std::thread late([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(2 * round));
            guarded.add(500);
        });
        alone.join();
        late.join();
        equals(guarded.count, u64{20500});
    }
}

void many_threads() {
    Guarded guarded;
    guarded.add(1000);
    std::vector<std::thread> threads;
    std::atomic<u64> tried = 0;
    for (unsigned i = 0; i < 4; ++i) {
        threads.emplace_back([&] { guarded.add(20000); });
        threads.emplace_back([&] { tried += guarded.add_where_free(20000); });
    }
    for (std::thread& thread : threads) thread.join();
    equals(guarded.count, 1000 + 4 * 20000 + tried.load());
}

void trying_is_not_waiting() {
    Guarded guarded;
    guarded.add(1000);
    std::scoped_lock lock(guarded.mutex);
    std::thread([&] { check(!guarded.mutex.try_lock(), "got it beside its holder"); }).join();
}

void coming_back() {
    for (u64 before = 0; before < 200; ++before) {  // one of these locks is the first that comes with favour
        Guarded guarded;
        guarded.add(before);
        std::scoped_lock lock(guarded.mutex);
        check(!guarded.mutex.try_lock(), "got it twice");
        throws<std::logic_error>([&] { guarded.mutex.lock(); });
    }
}

}  // namespace

int main() {
    return run({
        {"nothing is lost when another thread comes while one was alone", another_thread_may_come_at_any_time},
        {"nothing is lost among many threads", many_threads},
        {"who only tries never waits for who is favoured", trying_is_not_waiting},
        {"who comes back for the lock is told, favoured or not", coming_back},
    });
}
