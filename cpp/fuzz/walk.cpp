// Whatever tables hold: a walk ends, leaves memory that is not there alone (AddressSanitizer watches), grants what it
// says, says the same when it is observed, can be undone, and is what caches and batches say as long as tables stay.
#include <set>

#include "contexts.hpp"
#include "viommu/batch.hpp"

using namespace viommu;

namespace {

using Words = std::vector<u64>;

std::shared_ptr<Memory> memory_over(Words& words) {
    auto memory = std::make_shared<Memory>();
    memory->add({0, words.size() * 8 - 1, reinterpret_cast<std::byte*>(words.data()), true, nullptr, nullptr});
    return memory;
}

struct Access {
    u64 iova;
    u8 wanted;
};

template <typename Observer> Result walk(const Context& context, View view, Access access, Observer& observer) {
    Result result;
    context.walk(view, {}, access.iova, context.overridden(access.wanted), result, observer);
    return result;
}
Result walk(const Context& context, Words& words, Access access) {
    Unobserved observer;
    return walk(context, memory_over(words)->view(), access, observer);
}

bool same_output(const Result& a, const Result& b) {
    return a.kind == b.kind && a.pa == b.pa && a.ipa == b.ipa && a.page_lg2 == b.page_lg2 && a.attrs1 == b.attrs1 &&
           a.attrs2 == b.attrs2;
}
bool same(const Result& a, const Result& b) {
    return same_output(a, b) && a.stage == b.stage && a.fault_class == b.fault_class && a.level == b.level &&
           a.entry_address == b.entry_address && a.entry_value == b.entry_value && a.missing == b.missing &&
           a.rights.granted(a.access) == b.rights.granted(b.access) && a.for_update == b.for_update && a.top == b.top;
}

void check_result(const Result& r) {
    if (!r.ok()) return;
    if (r.rights.missing(r.access)) broken("what is translated is permitted");
    if (r.page_lg2 < 3 || r.page_lg2 > whole_lg2) broken("a page has a size");
    if ((r.pa ^ r.iova) & below(r.page_lg2)) broken("an address keeps its offset in the page");
}

// No word was read as two different entries: what a walk stores cannot have changed what it reads.
// Nor did it through masks of a described format that overlap.
bool reads_apart(const Context& context, const Recorder& recorder) {
    if (std::holds_alternative<fmt::Described>(context.stage1()) ||
        std::holds_alternative<fmt::Described>(context.stage2()))
        return false;
    std::set<std::pair<u64, u64>> words;
    std::set<u64> addresses;
    for (const StepRecord& step : recorder.steps) {
        words.insert({step.pa, u64{step.level} << 8 | static_cast<u8>(step.stage)});
        addresses.insert(step.pa);
    }
    return words.size() == addresses.size();
}

void one_walk(const Context& context, const Words& before, Access access) {
    // Eight levels, each entry behind eight more, and 64 attempts at a store: far more than any walk of tables that
    // nobody else writes.
    constexpr u64 most_loads = 8 * 9 * 64;

    Words words = before, observed_words = before, undone_words = before;
    Unobserved unobserved;
    const Result result = walk(context, memory_over(words)->view(), access, unobserved);
    check_result(result);
    if (unobserved.loads > most_loads) broken("a walk ends");

    Recorder recorder;
    if (!same(walk(context, memory_over(observed_words)->view(), access, recorder), result))
        broken("an observed walk says the same");
    if (words != observed_words) broken("an observed walk stores the same");
    if (recorder.loads != unobserved.loads) broken("an observed walk reads the same");

    Overlay overlay;
    View view = memory_over(undone_words)->view(&overlay);
    Unobserved observer;
    Result undone;
    context.walk(view, {}, access.iova, context.overridden(access.wanted), undone, observer);
    view.forget();
    if (undone_words != before) broken("a walk can be undone");
    if (!same(undone, result)) broken("a walk that will be undone says the same");

    const Words after = words;
    const Result again = walk(context, words, access);
    if (after == before && !same(again, result)) broken("the same tables say the same");
    if (result.ok() && reads_apart(context, recorder) && (words != after || !same_output(again, result)))
        broken("flags that were set need not be set again");
}

// Walks until nobody stores any more. False where tables that hold themselves never settle.
bool settle(const Context& context, Words& words, const std::vector<Access>& accesses) {
    for (int round = 0; round < 4; ++round) {
        const Words before = words;
        for (const Access& access : accesses) walk(context, words, access);
        if (words == before) return true;
    }
    return false;
}

void caches(const std::shared_ptr<const Context>& context, Words words, const std::vector<Access>& accesses,
            const IotlbGeometry& geometry, std::size_t walk_cache_entries) {
    if (!settle(*context, words, accesses)) return;
    const Words settled = words;
    Translator translator(memory_over(words), std::make_shared<Iotlb>(geometry), 1, walk_cache_entries);
    translator.keep_context({0, 0}, context, translator.configuration_generation());
    for (int round = 0; round < 2; ++round)
        for (const Access& access : accesses) {
            Translator::Session session(translator);
            Result cached;
            session.translate({0, 0}, *session.context({0, 0}), access.iova, access.wanted, cached);
            check_result(cached);
            if (!same(cached, walk(*context, words, access))) broken("a cache says what a walk says");
        }
    if (words != settled) broken("tables that have settled stay as they are");
}

// A batch is its rows one by one: the same answers, and the same counts.
void batch(const std::shared_ptr<const Context>& context, const Words& before, const std::vector<Access>& accesses,
           const IotlbGeometry& geometry, std::size_t walk_cache_entries) {
    constexpr std::size_t repeats = 3;
    Words one_words = before, many_words = before;
    Translator one(memory_over(one_words), std::make_shared<Iotlb>(geometry), 1, walk_cache_entries);
    Translator many(memory_over(many_words), std::make_shared<Iotlb>(geometry), 1, walk_cache_entries);
    one.keep_context({0, no_pasid}, context, one.configuration_generation());

    const std::size_t size = accesses.size() * repeats;
    std::vector<u32> requesters(size);
    std::vector<u64> iovas(size), pa(size);
    std::vector<u8> wanted(size), kind(size), lg2(size), rights(size);
    for (std::size_t row = 0; row < size; ++row) {
        iovas[row] = accesses[row % accesses.size()].iova;
        wanted[row] = accesses[row % accesses.size()].wanted;
    }
    Columns out{pa.data(), kind.data(), lg2.data(), rights.data(), {}};
    BatchTranslation(many, {requesters.data(), nullptr, iovas.data(), wanted.data(), size}, out).run([&](ContextKey) {
        return context;
    });
    for (std::size_t row = 0; row < size; ++row) {
        Translator::Session session(one);
        Result r;
        session.translate({0, no_pasid}, *session.context({0, no_pasid}), iovas[row], wanted[row], r);
        if (kind[row] != static_cast<u8>(r.kind)) broken("a batch's row is translated as it is alone");
        if (r.ok() && (pa[row] != r.pa || lg2[row] != r.page_lg2 || rights[row] != r.rights.granted(r.access)))
            broken("a batch's row goes where it goes alone");
    }
    const StreamCounters a = one.counters().streams, b = many.counters().streams;
    if (a.translations != b.translations || a.hits != b.hits || a.walks != b.walks || a.entry_loads != b.entry_loads ||
        a.faults != b.faults || one.counters().evictions != many.counters().evictions)
        broken("a batch counts as its rows do");
    if (one_words != many_words) broken("a batch stores what its rows store");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Fields in(data, size);
    const u64 iova = in.take<u64>() >> in.within(0, 52);
    std::vector<Access> accesses;
    for (unsigned i = 0; i < 4; ++i) {
        const u64 other = i % 2 ? iova ^ bit(in.within(0, 63)) : iova;
        const u8 wanted = in.take<u8>() & (access::wants | access::privileged);
        accesses.push_back({other, static_cast<u8>(wanted & access::wants ? wanted : wanted | access::read)});
    }
    // Groups fill four ways in bulk.
    const unsigned ways = in.flag() ? 4 : 1;
    const IotlbGeometry geometry{in.flag() ? 0 : std::size_t{ways} << in.within(0, 4), ways,
                                 static_cast<Policy>(in.within(0, 3)), 1};
    const std::size_t walk_cache_entries = in.within(0, 8);
    const auto subject = std::make_shared<const Context>(context(in));
    const Words words = tables(in);

    one_walk(*subject, words, accesses[0]);
    caches(subject, words, accesses, geometry, walk_cache_entries);
    batch(subject, words, accesses, geometry, walk_cache_entries);
    return 0;
}
