// The configuration cache beside a list that is searched from end to end.
#include "viommu/context_cache.hpp"

#include <random>
#include <vector>

#include "check.hpp"

using namespace viommu;

namespace {

class List {
public:
    explicit List(std::size_t capacity) : capacity_(capacity) {}

    const TagId* find(ContextKey key) const {
        const auto at = std::ranges::find(kept_, key, &Kept::key);
        return at == kept_.end() ? nullptr : &at->tag;
    }
    void insert(ContextKey key, TagId tag) {
        const auto at = std::ranges::find(kept_, key, &Kept::key);
        if (at != kept_.end()) return void(at->tag = tag);
        kept_.push_back({key, tag});
        if (kept_.size() > capacity_) kept_.erase(kept_.begin());
    }
    void drop(ContextKey key) {
        std::erase_if(kept_, [&](const Kept& k) { return k.key == key; });
    }
    void drop_requester(u32 requester) {
        std::erase_if(kept_, [&](const Kept& k) { return k.key.requester == requester; });
    }
    void drop_all() { kept_.clear(); }

private:
    struct Kept {
        ContextKey key;
        TagId tag;
    };
    std::size_t capacity_;
    std::vector<Kept> kept_;
};

void every_history_leaves_what_a_list_holds() {
    std::mt19937 random(1);
    const auto below = [&](u32 bound) { return static_cast<u32>(random() % bound); };
    for (unsigned history = 0; history < 60; ++history) {
        const std::size_t capacity = 1 + below(40);
        ContextCache cache(capacity);
        List list(capacity);
        for (TagId step = 0; step < 2000; ++step) {
            const ContextKey key{below(5), below(13)};
            const BoundContext* const found = cache.find(key);
            const TagId* const wanted = list.find(key);
            test::equals(found != nullptr, wanted != nullptr);
            if (found && wanted) test::equals(found->tag, *wanted);
            switch (below(16)) {
            case 0: cache.drop(key), list.drop(key); break;
            case 1: cache.drop_requester(key.requester), list.drop_requester(key.requester); break;
            case 2: below(20) ? void() : (cache.drop_all(), list.drop_all()); break;
            default: cache.insert(key, {.context = {}, .tag = step}), list.insert(key, step);
            }
        }
    }
}

}  // namespace

int main() { return test::run({{"every history leaves what a list holds", every_history_leaves_what_a_list_holds}}); }
