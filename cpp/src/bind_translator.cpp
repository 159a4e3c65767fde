#include "ask.hpp"
#include "batch.hpp"
#include "fast_call.hpp"
#include "result.hpp"

namespace viommu {
namespace {

template <typename T> using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// A machine owns its Translator, and `resolve` usually is a method of something that the machine owns: a circle that
// the garbage collector must see.
void collect_with_resolve(PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(Py_TYPE(self));
        if (py::detail::is_holder_constructed(self)) Py_VISIT(py::cast<PyTranslator&>(py::handle(self)).resolve.ptr());
        return 0;
    };
    type.tp_clear = [](PyObject* self) {
        if (py::detail::is_holder_constructed(self)) py::cast<PyTranslator&>(py::handle(self)).resolve = {};
        return 0;
    };
}

template <typename T> const T* column(const Array<T>& array, py::ssize_t size, const char* name) {
    if (array.ndim() != 1 || array.size() != size)
        throw py::value_error(std::string("column ") + name + " has " + std::to_string(array.size()) +
                              " values where iova has " + std::to_string(size) +
                              ": all columns are one-dimensional and of one length");
    return array.data();
}

// Sets the columns up, runs `translate(rows, columns, resolve)` without the GIL, and hands the answer over.
template <typename Translate>
py::object run_batch(const py::function& resolve, const Array<u32>& requester, const Array<u64>& iova,
                     const Array<u8>& access, const std::optional<Array<u32>>& pasid, const py::object& heir,
                     Translate&& translate) {
    const py::ssize_t size = iova.size();
    const Rows rows{column(requester, size, "requester"), pasid ? column(*pasid, size, "pasid") : nullptr,
                    column(iova, size, "iova"), column(access, size, "access"), static_cast<std::size_t>(size)};
    const auto heir_of = [](const py::object& type) {
        if (type.is_none()) return static_cast<PyTypeObject*>(nullptr);
        auto* const found = reinterpret_cast<PyTypeObject*>(type.ptr());
        if (!PyType_Check(type.ptr()) || !is_heir_of_batch(found)) throw py::type_error("heir is no class of Batch's");
        return found;
    };
    NewBatch batch(heir_of(heir), rows.size);
    {
        py::gil_scoped_release unlocked;
        translate(rows, batch.columns(), [&](ContextKey key) {
            py::gil_scoped_acquire locked;
            return ask(resolve, key, batch.refusals());
        });
    }
    return batch.told({requester, iova, access, pasid ? py::object(*pasid) : py::none()});
}

py::object translate_one(PyTranslator& t, u32 requester, u64 iova, u8 access, u32 pasid) {
    const ContextKey key{requester, pasid};
    for (unsigned resolutions = 0;; ++resolutions) {
        if (resolutions > most_resolutions) throw std::runtime_error(invalidated_in_vain);
        u64 generation;
        Result result;
        const bool configured = [&] {
            py::gil_scoped_release unlocked;
            generation = t.engine.configuration_generation();
            return t.engine.translate(key, iova, access, result);
        }();
        if (configured) return py::cast(result);
        py::dict refusals;
        ResolvedContext context = ask(t.resolve, key, refusals);
        const bool refusal = !context;
        // What was read while software invalidated configuration is read again, a refusal too: hardware would have
        // ended the access before it told software that it is done.
        const bool stands = [&] {
            py::gil_scoped_release unlocked;
            if (!refusal) return t.engine.keep_context(key, std::move(context), generation);
            Translator::Session session(t.engine);
            if (session.configuration_generation() != generation) return false;
            session.count_refusal(key);
            return true;
        }();
        if (refusal && stands) return py::make_tuple(refused(iova, access), refusals.begin()->second);
    }
}

// `translate` as Python calls it. What hits answers here: without pybind11's argument handling, and with the GIL kept,
// since nobody is waited for. All else, wrong arguments too, is for the full one, which this one is put before.
PyObject* translate_behind = nullptr;

PyObject* fast_translate(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    auto* const t = held_by<PyTranslator>(self);
    u64 requester, iova, access, pasid = no_pasid;
    Result result;
    if (t && !names && (count == 3 || count == 4) && read_number(args[0], ~u32{0}, requester) &&
        read_number(args[1], ~u64{0}, iova) && read_number(args[2], 0xFF, access) &&
        (count == 3 || read_number(args[3], ~u32{0}, pasid)) &&
        t->engine.try_hit({static_cast<u32>(requester), static_cast<u32>(pasid)}, iova, static_cast<u8>(access),
                          result))
        return raising([&] { return py::reinterpret_steal<py::object>(new_result(result)); });
    return call_behind(translate_behind, self, args, count, names);
}

// Runs an engine call that takes the lock: never with the GIL held.
template <typename Call> void unlocked(Call&& call) {
    py::gil_scoped_release released;
    call();
}

Policy policy_of(const std::string& name) {
    if (name == "lru") return Policy::lru;
    if (name == "plru") return Policy::plru;
    if (name == "fifo") return Policy::fifo;
    if (name == "random") return Policy::random;
    throw py::value_error("Iotlb: policy '" + name + "' is none of lru, plru, fifo, random");
}

const char* policy_name(Policy policy) {
    switch (policy) {
    case Policy::lru: return "lru";
    case Policy::plru: return "plru";
    case Policy::fifo: return "fifo";
    case Policy::random: break;
    }
    return "random";
}

void bind_iotlb(py::module_& m) {
    py::class_<Iotlb, std::shared_ptr<Iotlb>>(m, "Iotlb", py::is_final(),
                                              "A tagged, page-size aware translation cache.")
        .def(py::init([](std::optional<std::size_t> entries, unsigned ways, const std::string& policy, u64 seed) {
                 if (entries == std::size_t{0})
                     throw py::value_error("Iotlb: entries 0: give None for an unbounded one");
                 return std::make_shared<Iotlb>(IotlbGeometry{entries.value_or(0), ways, policy_of(policy), seed});
             }),
             py::kw_only(), "entries"_a = 1024, "ways"_a = 4, "policy"_a = "lru", "seed"_a = 0)
        .def_property_readonly(
            "entries",
            [](const Iotlb& t) { return t.unbounded() ? std::nullopt : std::optional(t.geometry().entries); })
        .def_property_readonly("ways", [](const Iotlb& t) { return t.geometry().ways; })
        .def_property_readonly("policy", [](const Iotlb& t) { return policy_name(t.geometry().policy); });
}

py::dict as_dict(const StreamCounters& c) {
    py::dict faults;
    for (std::size_t kind = 1; kind < c.faults.size(); ++kind)
        if (c.faults[kind]) faults[py::str(std::string(fault_kind_names[kind]))] = c.faults[kind];
    return py::dict("translations"_a = c.translations, "lookups"_a = c.lookups, "hits"_a = c.hits,
                    "misses"_a = c.lookups - c.hits, "walks"_a = c.walks, "entry_loads"_a = c.entry_loads,
                    "faults"_a = c.all_faults(), "faults_by_kind"_a = faults);
}

py::dict counters(PyTranslator& t) {
    Counters c;
    unlocked([&] { c = t.engine.counters(); });
    py::dict all = as_dict(c.streams);
    all["insertions"] = c.insertions;
    all["evictions"] = c.evictions;
    all["context_hits"] = c.context_hits();
    all["context_misses"] = c.context_misses;
    all["walk_cache_hits"] = c.walk_cache_hits;
    all["invalidations"] = c.invalidations;
    return all;
}

py::dict stream_counters(PyTranslator& t, u32 requester) {
    StreamCounters c;
    unlocked([&] { c = t.engine.stream_counters(requester); });
    return as_dict(c);
}

// A tag as Python knows it: a number, or the name of what has none.
py::object stage1_tag(u64 tag) {
    if (tag == Tags::global) return py::str("global");
    if (tag == Tags::none) return py::none();
    return py::int_(tag);
}

py::dict as_dict(const StaleUse& use) {
    py::object cause = py::none();
    if (use.cause_known)
        cause = py::dict("pa"_a = use.cause.pa, "stage"_a = static_cast<u8>(use.cause.stage),
                         "level"_a = use.cause.level, "was"_a = use.cause.value, "is"_a = use.cause_now);
    return py::dict("requester"_a = use.requester,
                    "pasid"_a = use.pasid == no_pasid ? py::object(py::none()) : py::int_(use.pasid),
                    "cache"_a = use.cache == CacheKind::iotlb ? "iotlb" : "walk cache", "stage2_tag"_a = use.stage2_tag,
                    "stage1_tag"_a = stage1_tag(use.stage1_tag), "page_lg2"_a = use.page_lg2, "cached"_a = use.cached,
                    "fresh"_a = use.fresh, "cause"_a = cause, "made"_a = use.made, "last_right"_a = use.last_right,
                    "now"_a = use.now);
}

py::list stale_uses(PyTranslator& t) {
    std::vector<StaleUse> uses;
    unlocked([&] { uses = t.engine.take_stale_uses(); });
    py::list out;
    for (const StaleUse& use : uses) out.append(as_dict(use));
    return out;
}

py::dict sanitizer_counts(PyTranslator& t) {
    SanitizerCounts c;
    unlocked([&] { c = t.engine.sanitizer_counts(); });
    return py::dict("checked"_a = c.checked, "stale"_a = c.stale, "invalidations"_a = c.invalidations,
                    "removed_nothing"_a = c.removed_nothing, "removed_right"_a = c.removed_right,
                    "removed_stale"_a = c.removed_stale, "unreported"_a = c.unreported);
}

void invalidate_contexts(PyTranslator& t, std::optional<u32> requester, std::optional<u32> pasid) {
    if (!requester && pasid) throw py::value_error("invalidate_contexts: a pasid needs its requester");
    unlocked([&] {
        if (!requester)
            t.engine.invalidate_contexts();
        else if (!pasid)
            t.engine.invalidate_requester(*requester);
        else
            t.engine.invalidate_context({*requester, *pasid});
    });
}

void check_range(u64 start, u64 last) {
    if (start > last) throw py::value_error("range starts at " + hex(start) + ", after its last address " + hex(last));
}

}  // namespace

void bind_translator(py::module_& m) {
    bind_iotlb(m);
    using T = PyTranslator;
    py::class_<T> type(m, "Translator", py::is_final(), py::custom_type_setup(collect_with_resolve),
                       "Context cache, IOTLB and walker over one memory.");
    type.def(py::init<std::shared_ptr<Memory>, py::function, std::shared_ptr<Iotlb>, std::size_t, std::size_t, bool>(),
             "memory"_a, "resolve"_a, py::kw_only(), "iotlb"_a = py::none(), "context_entries"_a = 65536,
             "walk_cache_entries"_a = 0, "sanitize"_a = false)
        .def("translate", &translate_one, "requester"_a, "iova"_a, "access"_a, "pasid"_a = no_pasid)
        .def(
            "translate_many",
            [](T& t, const Array<u32>& requester, const Array<u64>& iova, const Array<u8>& access,
               const std::optional<Array<u32>>& pasid, const py::object& heir) {
                return run_batch(t.resolve, requester, iova, access, pasid, heir,
                                 [&](const Rows& rows, Columns& out, auto&& resolve) {
                                     BatchTranslation(t.engine, rows, out).run(resolve);
                                 });
            },
            "requester"_a, "iova"_a, "access"_a, "pasid"_a = py::none(), "heir"_a = py::none())
        .def(
            "walk_many",
            [](T& t, const Array<u32>& requester, const Array<u64>& iova, const Array<u8>& access,
               const std::optional<Array<u32>>& pasid, const py::object& heir) {
                return run_batch(t.resolve, requester, iova, access, pasid, heir,
                                 [&](const Rows& rows, Columns& out, auto&& resolve) {
                                     walk_many(t.engine.memory(), rows, out, resolve);
                                 });
            },
            "requester"_a, "iova"_a, "access"_a, "pasid"_a = py::none(), "heir"_a = py::none())
        .def("invalidate_all", [](T& t) { unlocked([&] { t.engine.invalidate_all(); }); })
        .def(
            "invalidate_stage2_tag",
            [](T& t, u32 tag, bool stage1_only) {
                unlocked([&] { t.engine.invalidate_stage2_tag(tag, stage1_only); });
            },
            "stage2_tag"_a, py::kw_only(), "stage1_only"_a = false)
        .def(
            "invalidate_stage1_tag",
            [](T& t, u32 stage2_tag, u32 stage1_tag) {
                unlocked([&] { t.engine.invalidate_stage1_tag(stage2_tag, stage1_tag); });
            },
            "stage2_tag"_a, "stage1_tag"_a)
        .def(
            "invalidate_range",
            [](T& t, u32 stage2_tag, std::optional<u32> stage1_tag, u64 start, u64 last, bool leaf_only) {
                check_range(start, last);
                unlocked([&] { t.engine.invalidate_range(stage2_tag, stage1_tag, start, last, leaf_only); });
            },
            "stage2_tag"_a, "stage1_tag"_a, "start"_a, "last"_a, py::kw_only(), "leaf_only"_a = false)
        .def(
            "invalidate_stage2_range",
            [](T& t, u32 stage2_tag, u64 start, u64 last, bool leaf_only) {
                check_range(start, last);
                unlocked([&] { t.engine.invalidate_stage2_range(stage2_tag, start, last, leaf_only); });
            },
            "stage2_tag"_a, "start"_a, "last"_a, py::kw_only(), "leaf_only"_a = false)
        .def("invalidate_contexts", &invalidate_contexts, "requester"_a = py::none(), "pasid"_a = py::none())
        .def("counters", &counters)
        .def("stream_counters", &stream_counters, "requester"_a)
        .def_property_readonly("sanitizes", [](const T& t) { return t.engine.sanitizes(); })
        .def_property_readonly("sanitizer_now",
                               [](T& t) {
                                   u64 now = 0;
                                   unlocked([&] { now = t.engine.sanitizer_now(); });
                                   return now;
                               })
        .def(
            "cached_context",
            [](T& t, u32 requester, u32 pasid) {
                std::shared_ptr<const Context> context;
                unlocked([&] { context = t.engine.cached_context({requester, pasid}); });
                return std::const_pointer_cast<Context>(context);
            },
            "requester"_a, "pasid"_a = no_pasid)
        .def("stale_uses", &stale_uses)
        .def("sanitizer_counts", &sanitizer_counts)
        .def("reset_counters", [](T& t) { unlocked([&] { t.engine.reset_counters(); }); })
        .def("__len__",
             [](T& t) {
                 std::size_t count = 0;
                 unlocked([&] { count = t.engine.live_entries(); });
                 return count;
             })
        .def_property_readonly("iotlb", [](T& t) { return t.engine.iotlb(); });
    translate_behind = put_before<fast_translate>(type, "translate");
}

}  // namespace viommu
