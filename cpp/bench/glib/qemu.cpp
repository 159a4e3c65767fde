// How QEMU caches translations, told in our own code: one GLib hash table of allocated keys and entries, emptied when
// it is full; every level that a page might have is tried in turn; invalidation looks at every entry.
#include <glib.h>

#include <array>
#include <bit>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "rounds.hpp"

namespace viommu::bench {
namespace {

constexpr u64 first_iova = u64{1} << 39;
constexpr std::size_t rows = 64 * 1024;
enum Permission : unsigned { reads = 1, writes = 2 };

struct Entry {
    u64 iova, pa, mask;
    unsigned permission, level, granule;
    u32 asid, vmid;
};

class Table {
public:
    Table(GHashFunc hash, GEqualFunc equal, GDestroyNotify forget_key)
        : table_(g_hash_table_new_full(hash, equal, forget_key, g_free)) {}
    ~Table() { g_hash_table_destroy(table_); }
    Table(const Table&) = delete;
    GHashTable* get() const { return table_; }

private:
    GHashTable* table_;
};

// As the SMMUv3 model does: 256 entries, a key of address, ASID, VMID, granule and level, mixed as Jenkins's lookup3
// does.
class SmmuIotlb {
public:
    static constexpr std::size_t capacity = 256;

    // What an access goes through first: the device's decoded configuration, found by the device's address.
    struct Configuration {
        unsigned granule_lg2 = 12, top_level = 0;
        u32 asid = 1, vmid = 0;
        bool enabled = true;
    };

    SmmuIotlb() : entries_(hash, equal, g_free), configurations_(g_direct_hash, g_direct_equal, nullptr) {
        g_hash_table_insert(configurations_.get(), &device_, g_memdup2(&made_, sizeof made_));
    }
    void insert(u64 iova, u64 pa) {
        if (g_hash_table_size(entries_.get()) >= capacity) g_hash_table_remove_all(entries_.get());
        const Key key{iova, 1, 0, 0, 3};
        const Entry entry{iova, pa, 0xFFF, reads | writes, 3, 12, 1, 0};
        g_hash_table_insert(entries_.get(), g_memdup2(&key, sizeof key), g_memdup2(&entry, sizeof entry));
    }
    bool translate(u64 iova, unsigned wants, u64& pa) const {
        const auto* const configuration =
            static_cast<const Configuration*>(g_hash_table_lookup(configurations_.get(), &device_));
        if (!configuration || !configuration->enabled) return false;
        const Entry* const entry = find(*configuration, iova);
        if (!entry || (wants & ~entry->permission)) return false;
        pa = entry->pa + (iova & entry->mask);
        return true;
    }
    // Looks at every entry; those of the ASID go.
    unsigned drop(u32 asid) {
        return g_hash_table_foreach_remove(
            entries_.get(),
            [](gpointer, gpointer value, gpointer wanted) -> gboolean {
                return static_cast<const Entry*>(value)->asid == *static_cast<const u32*>(wanted);
            },
            &asid);
    }

private:
    struct Key {
        u64 iova;
        u32 asid, vmid;
        u8 granule, level;
    };
    static const Key& key_of(gconstpointer key) { return *static_cast<const Key*>(key); }
    static guint hash(gconstpointer key) {
        const Key& k = key_of(key);
        u32 a = 0xDEADBEEF + sizeof(Key), b = a, c = a;
        a += static_cast<u32>(k.iova) + k.level;
        b += static_cast<u32>(k.iova >> 32) + k.granule;
        c += k.asid + k.vmid;
        const auto mix = [](u32& into, u32 from, int by) { into = (into ^ from) - std::rotl(from, by); };
        mix(c, b, 14), mix(a, c, 11), mix(b, a, 25), mix(c, b, 16), mix(a, c, 4), mix(b, a, 14), mix(c, b, 24);
        return c;
    }
    static gboolean equal(gconstpointer one, gconstpointer other) {
        const Key &a = key_of(one), &b = key_of(other);
        return a.iova == b.iova && a.asid == b.asid && a.vmid == b.vmid && a.granule == b.granule && a.level == b.level;
    }
    const Entry* find(const Configuration& c, u64 iova) const {
        for (unsigned level = c.top_level; level <= 3; ++level) {
            const u64 mask = below(c.granule_lg2 + (3 - level) * (c.granule_lg2 - 3));
            const Key key{iova & ~mask, c.asid, c.vmid, static_cast<u8>((c.granule_lg2 - 10) / 2 - 1),
                          static_cast<u8>(level)};
            if (const void* entry = g_hash_table_lookup(entries_.get(), &key)) return static_cast<const Entry*>(entry);
        }
        return nullptr;
    }

    Configuration made_;
    int device_ = 0;
    Table entries_, configurations_;
};

// As the VT-d model does: 1024 entries, a key of page, source, PASID and level; the smallest page is tried first.
class VtdIotlb {
public:
    static constexpr std::size_t capacity = 1024;

    VtdIotlb() : entries_(hash, equal, g_free) {}
    void insert(u64 iova, u64 pa) {
        if (g_hash_table_size(entries_.get()) >= capacity) g_hash_table_remove_all(entries_.get());
        const Key key{iova >> 12, no_pasid, 1, source};
        const Entry entry{iova, pa, 0xFFF, reads | writes, 1, 12, 0, 0};
        g_hash_table_insert(entries_.get(), g_memdup2(&key, sizeof key), g_memdup2(&entry, sizeof entry));
    }
    bool translate(u64 iova, unsigned wants, u64& pa) {
        const std::scoped_lock lock(mutex_);
        for (u32 level = 1; level <= 3; ++level) {
            const u64 mask = below(12 + (level - 1) * 9);
            const Key key{(iova & ~mask) >> 12, no_pasid, level, source};
            const auto* const entry = static_cast<const Entry*>(g_hash_table_lookup(entries_.get(), &key));
            if (!entry) continue;
            if (wants & ~entry->permission) return false;
            pa = (entry->pa & ~entry->mask) | (iova & entry->mask);
            return true;
        }
        return false;
    }

private:
    static constexpr u16 source = 0x28;

    struct Key {
        u64 page;
        u32 pasid, level;
        u16 source;
    };
    static const Key& key_of(gconstpointer key) { return *static_cast<const Key*>(key); }
    static guint hash(gconstpointer key) {
        const Key& k = key_of(key);
        const u64 mixed = k.page | u64{k.source} << 44 | u64{k.level - 1} << 61 | u64{k.pasid} << 32;
        return static_cast<guint>(mixed >> 32 ^ (mixed & 0xFFFF'FFFF));
    }
    static gboolean equal(gconstpointer one, gconstpointer other) {
        const Key &a = key_of(one), &b = key_of(other);
        return a.page == b.page && a.source == b.source && a.level == b.level && a.pasid == b.pasid;
    }
    static constexpr u32 no_pasid = 0;

    std::mutex mutex_;
    Table entries_;
};

template <typename Iotlb> Path hit(std::string name, std::size_t pages) {
    const auto iotlb = std::make_shared<Iotlb>();
    const auto iovas = std::make_shared<std::vector<u64>>();
    std::mt19937_64 random(1);
    for (std::size_t page = 0; page < pages; ++page) iotlb->insert(first_iova + page * 4096, page << 12);
    for (std::size_t row = 0; row < rows; ++row) iovas->push_back(first_iova + random() % pages * 4096);
    return {std::move(name), [=] {
                u64 sum = 0, pa = 0;
                for (const u64 iova : *iovas) {
                    if (!iotlb->translate(iova, reads, pa))
                        throw std::logic_error("a page of the benchmark is missing");
                    sum += pa;
                }
                sink = sum;
                return iovas->size();
            }};
}

// A scan that finds nothing to remove, so that the next one has as much to look at.
Path scan() {
    constexpr std::size_t times = 200;
    const auto iotlb = std::make_shared<SmmuIotlb>();
    for (std::size_t page = 0; page < SmmuIotlb::capacity; ++page) iotlb->insert(first_iova + page * 4096, page << 12);
    return {"QEMU style scan by ASID, 256 entries", [=] {
                u64 dropped = 0;
                for (std::size_t i = 0; i < times; ++i) dropped += iotlb->drop(2);
                sink = dropped;
                return times;
            }};
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** arguments) {
    using namespace viommu::bench;
    Groups groups;
    groups.add("hits, 1k pages", [] {
        return Paths{hit<SmmuIotlb>("QEMU SMMUv3 style hit", 200), hit<VtdIotlb>("QEMU VT-d style hit, mutex", 1000)};
    });
    groups.add("invalidations", [] { return Paths{scan()}; });
    return groups.main(count, arguments);
}
