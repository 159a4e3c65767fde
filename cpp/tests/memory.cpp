// Physical memory: regions, holes, pictures that outlive a change, and stores that can be taken back.
#include <random>
#include <set>

#include "check.hpp"
#include "tables.hpp"

namespace {
thread_local bool out_of_memory = false;
}
[[gnu::noinline]] void* operator new(std::size_t size) {
    void* const made = out_of_memory ? nullptr : std::malloc(size);
    if (!made) throw std::bad_alloc();
    return made;
}
[[gnu::noinline]] void operator delete(void* gone) noexcept { std::free(gone); }
[[gnu::noinline]] void operator delete(void* gone, std::size_t) noexcept { std::free(gone); }

namespace viommu::test {
namespace {

constexpr u64 page = 0x1000;

std::byte* bytes(std::vector<u64>& words) { return reinterpret_cast<std::byte*>(words.data()); }
Region region(u64 start, std::vector<u64>& words, bool writable = true) {
    return {start, start + words.size() * 8 - 1, bytes(words), writable, nullptr, nullptr};
}
std::optional<std::vector<u8>> read(const Memory& memory, u64 pa, std::size_t size) {
    std::vector<u8> out(size);
    if (!memory.read(pa, reinterpret_cast<std::byte*>(out.data()), size)) return std::nullopt;
    return out;
}
bool write(Memory& memory, u64 pa, std::vector<u8> data) {
    return memory.write(pa, reinterpret_cast<const std::byte*>(data.data()), data.size());
}
bool loads(const Memory& memory, u64 pa, u64 wanted) {
    u64 value = 0;
    return memory.view().load(pa, value) && value == wanted;
}

void regions() {
    std::vector<u64> low(512, 1), high(512, 2);
    Memory memory;
    memory.add(region(4 * page, high));
    memory.add(region(page, low));
    check(loads(memory, page, 1) && loads(memory, 2 * page - 8, 1) && loads(memory, 4 * page, 2),
          "each region answers for its own");
    u64 value;
    for (const u64 hole : {u64{0}, 2 * page, 3 * page, 5 * page, ~u64{7}})
        check(!memory.view().load(hole, value), "a hole answers nothing");
    equals(memory.picture()->regions().front().start, page);
}

void top_of_the_address_space() {
    std::vector<u64> words(512, 3);
    Memory memory;
    memory.add(region(~u64{0} - page + 1, words));
    check(loads(memory, ~u64{7}, 3), "the last word is there");
    check(!read(memory, ~u64{7}, 9), "reading does not wrap around");
    check(!write(memory, ~u64{7}, std::vector<u8>(9)), "nor does writing");
}

void overlaps() {
    std::vector<u64> words(512);
    Memory memory;
    memory.add(region(2 * page, words));
    for (const u64 start : {page + 8, 2 * page, 3 * page - 8})
        throws<std::invalid_argument>([&] { memory.add(region(start, words)); });
    memory.add(region(page, words));
    memory.add(region(3 * page, words));
    equals(memory.picture()->regions().size(), 3u);
}

void removal() {
    std::vector<u64> words(512);
    Memory memory;
    for (const u64 start : {page, 2 * page, 3 * page}) memory.add(region(start, words));
    throws<std::invalid_argument>([&] { memory.remove(page, 2 * page + 7); });
    equals(memory.picture()->regions().size(), 3u);
    memory.remove(0, 3 * page - 1);
    equals(memory.picture()->regions().size(), 1u);
    equals(memory.picture()->regions()[0].start, 3 * page);
}

// Whether somebody looked at memory in between decides how it is changed, and nothing else.
void changes_that_fail() {
    std::vector<u64> words(512, 7);
    for (const bool adds : {true, false}) {
        Memory memory;
        memory.add(region(0, words));
        View view = memory.view();
        out_of_memory = true;
        throws<std::bad_alloc>([&] { adds ? memory.add(region(page, words)) : memory.remove(0, page - 1); });
        out_of_memory = false;
        memory.remove(0, page - 1);
        u64 value = 0;
        check(view.load(0, value) && value == 7, "it is still the picture that was looked at");
    }
}

void removal_one_by_one() {
    std::vector<u64> words(512);
    Memory memory;
    std::set<u64> there;
    const auto right = [&] {
        std::set<u64> found;
        for (const Region& r : memory.picture()->regions()) found.insert(r.start);
        return found == there;
    };
    std::mt19937 random(1);
    for (int step = 0; step < 4000; ++step) {
        const u64 start = random() % 32 * page, pages = 1 + random() % 3;
        if (random() % 2) {
            if (there.insert(start).second) memory.add(region(start, words));
        } else {
            memory.remove(start, start + pages * page - 1);
            there.erase(there.lower_bound(start), there.lower_bound(start + pages * page));
        }
        if (random() % 4 == 0) check(right(), "those are there that were added and not removed");
    }
    for (const u64 start : there) throws<std::invalid_argument>([&] { memory.remove(start + 8, start + page); });
    check(right(), "a region that would be cut stays");
}

void views_outlive_removal() {
    Memory memory;
    auto words = std::make_shared<std::vector<u64>>(512, 7);
    std::weak_ptr<void> alive = words;
    {
        Region r = region(page, *words);
        r.owner = std::move(words);
        memory.add(std::move(r));
    }
    {
        View view = memory.view();
        memory.remove(page, 2 * page - 1);
        u64 value = 0;
        check(view.load(page, value) && value == 7, "whoever looked before still sees it");
        check(!memory.view().load(page, value), "whoever looks now does not");
    }
    check(alive.expired(), "the buffer went with its last reader");
}

// A buffer's owner may be anything: its end may come back to the memory that held it.
void owners_may_use_the_memory() {
    Memory memory;
    std::vector<u64> words(512);
    bool asked = false;
    Region r = region(page, words);
    r.owner = std::shared_ptr<void>(&words, [&](void*) { asked = memory.picture()->regions().empty(); });
    memory.add(std::move(r));
    memory.remove(page, 2 * page - 1);
    check(asked, "the owner ends after the change, and no lock is held");
}

void bytes_in_words() {
    std::vector<u64> a(512), b(512);
    Memory memory;
    memory.add(region(page, a));
    memory.add(region(2 * page, b));
    check(write(memory, 2 * page - 3, {1, 2, 3, 4, 5}), "a write may cross regions, and start anywhere");
    equals(a[511], 0x0302'0100'0000'0000);
    equals(b[0], 0x0504u);
    check(read(memory, 2 * page - 3, 5) == std::vector<u8>{1, 2, 3, 4, 5}, "so may a read");
    check(read(memory, 9 * page, 0).has_value(), "nothing can be read anywhere");
}

void all_or_nothing() {
    std::vector<u64> a(512), b(512);
    Memory memory;
    memory.add(region(page, a));
    memory.add(region(2 * page, b, false));
    check(!write(memory, 2 * page - 1, {1, 2}), "half of it is read-only");
    check(!write(memory, 3 * page - 1, {1, 2}) && !write(memory, page - 1, {1, 2}), "half of it is a hole");
    equals(a[511] | a[0], 0u);
    equals(static_cast<int>(memory.view().compare_exchange(2 * page, 0, 1)), static_cast<int>(Exchange::refused));
    equals(static_cast<int>(memory.view().compare_exchange(page, 1, 2)), static_cast<int>(Exchange::changed));
}

void stubborn_callbacks() {
    Memory memory;
    memory.add({0, page - 1, nullptr, true,
                std::make_shared<const Callbacks>(Callbacks{[](u64) { return std::optional<u64>(0); },
                                                            [](u64, u64, u64) { return std::optional(false); }}),
                nullptr});
    check(!write(memory, 0, {1}), "a write that never succeeds is given up");
}

void overlaid() {
    std::vector<u64> words(512, 5);
    Memory memory;
    memory.add(region(page, words));
    Overlay overlay;
    View view = memory.view(&overlay);
    u64 seen = 0;
    view.compare_exchange(page, 5, 6);
    view.compare_exchange(page, 6, 7);
    check(view.compare_exchange(page + 8, 4, 9) == Exchange::changed, "the expected value counts");
    check(view.load(page, seen), "it loads");
    equals(seen, 7u);
    check(words == std::vector<u64>(512, 5), "memory never saw it");
    view.forget();
    check(overlay.empty(), "it is forgotten");
    check(view.load(page, seen), "it loads");
    equals(seen, 5u);
}

}  // namespace
}  // namespace viommu::test

int main() {
    using namespace viommu::test;
    return run({
        {"regions answer for their addresses, holes for none", regions},
        {"memory may end where the address space does", top_of_the_address_space},
        {"regions never overlap", overlaps},
        {"whole regions are removed, never parts", removal},
        {"a view keeps what it saw", views_outlive_removal},
        {"a view keeps what it saw when memory runs out", changes_that_fail},
        {"regions may go one by one", removal_one_by_one},
        {"a buffer's owner ends with no lock held", owners_may_use_the_memory},
        {"bytes go anywhere", bytes_in_words},
        {"a write that cannot be whole stores nothing", all_or_nothing},
        {"memory that always loses the race ends a write", stubborn_callbacks},
        {"a walk's own stores are its alone", overlaid},
    });
}
