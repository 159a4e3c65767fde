// Shared registers: stores are found, none is lost, and what hardware shows goes over none.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "viommu/register_watch.hpp"

using namespace viommu;
using namespace viommu::test;

namespace {

using Word = RegisterPage::Word;

struct Memory {
    alignas(8) std::byte bytes[64] = {};
    template <typename Number> std::atomic_ref<Number> at(std::size_t offset) {
        return std::atomic_ref<Number>(*reinterpret_cast<Number*>(bytes + offset));
    }
    std::shared_ptr<RegisterPage> page(std::vector<Word> words = {{0, 4}}) {
        return std::make_shared<RegisterPage>(bytes, std::move(words));
    }
};

void a_store_is_found_once() {
    Memory memory;
    const auto page = memory.page({{0, 4}, {8, 8}});
    check(!page->is_stored_to(), "there is none yet");
    memory.at<u64>(8).store(u64{1} << 40);
    check(page->is_stored_to(), "not seen");
    const auto stored = page->take();
    equals(stored.size(), 1u);
    equals(stored[0].index, 1u);
    equals(stored[0].value, u64{1} << 40);
    check(page->take().empty(), "taken twice");
}

void what_hardware_shows_is_no_store() {
    Memory memory;
    const auto page = memory.page({{0, 4}, {4, 4}});
    check(page->show(1, 0, 7), "not shown");
    equals(memory.at<u32>(4).load(), 7u);
    equals(memory.at<u32>(0).load(), 0u);
    equals(page->shown(1), 7u);
    check(!page->is_stored_to(), "taken for a store");
}

void who_knows_less_shows_nothing() {
    Memory memory;
    const auto page = memory.page();
    page->show(0, 0, 7);
    check(!page->show(0, 0, 8), "the word has changed since");
    equals(memory.at<u32>(0).load(), 7u);
}

void a_store_is_not_shown_over() {
    Memory memory;
    const auto page = memory.page();
    memory.at<u32>(0).store(5);
    check(page->show(0, 0, 9), "to be looked at again");
    equals(memory.at<u32>(0).load(), 5u);
    equals(page->take()[0].value, 5u);
}

constexpr u32 rings = u32{1} << 31;

// Software stores 1, 2, 3, ... with a bit that hardware takes away, and waits for that each time.
void store_all(Memory& memory, u32 last) {
    for (u32 value = 1; value <= last; ++value) {
        memory.at<u32>(0).store(value | rings);
        while (memory.at<u32>(0).load() & rings) std::this_thread::yield();
    }
}

void no_store_is_lost_beside_shows() {
    constexpr u32 last = 5000;
    Memory memory;
    const auto page = memory.page({{0, 4}, {4, 4}});
    RegisterWatch watch;
    watch.add(page);
    std::atomic<bool> ended = false;
    std::thread software([&] {
        store_all(memory, last);
        ended = true;
        watch.end();
    });
    std::thread hardware([&] {
        for (u64 value = 1; !ended; ++value) page->show(1, page->shown(1), value & 0xffff);
    });
    u32 found = 0;
    while (watch.wait()) {
        for (const auto& [index, value] : page->take()) {
            equals(index, 0u);
            equals(value, ++found | rings);
            page->show(0, value, value & ~rings);
        }
    }
    software.join();
    hardware.join();
    equals(found, last);
}

void a_touch_or_an_end_ends_a_wait() {
    Memory memory;
    RegisterWatch watch;
    watch.add(memory.page());
    watch.touch();
    check(watch.wait(), "touched, not ended");
    std::thread other([&] { watch.end(); });
    check(!watch.wait(), "ended");
    other.join();
}

void without_a_page_it_waits_for_one() {
    Memory memory;
    memory.at<u32>(0).store(1);
    const auto page = memory.page();
    RegisterWatch watch;
    std::thread other([&] { watch.add(page); });
    check(watch.wait(), "not ended");
    other.join();
    watch.remove(page);
    std::thread last([&] { watch.end(); });
    check(!watch.wait(), "the page that was stored to is gone");
    last.join();
}

}  // namespace

int main() {
    return run({
        {"a store is found once", a_store_is_found_once},
        {"what hardware shows is no store", what_hardware_shows_is_no_store},
        {"who knows less than is shown shows nothing", who_knows_less_shows_nothing},
        {"a store is not shown over", a_store_is_not_shown_over},
        {"no store is lost while hardware shows others", no_store_is_lost_beside_shows},
        {"a touch or an end ends a wait", a_touch_or_an_end_ends_a_wait},
        {"without a page it waits for one", without_a_page_it_waits_for_one},
    });
}
