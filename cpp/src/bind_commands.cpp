#include <set>

#include "fast_call.hpp"
#include "viommu/commands.hpp"

namespace viommu {
namespace {

namespace cmd = commands;

constexpr unsigned most_ring_lg2 = 32;

// How a description crosses from Python (`viommu.commands.compiled`): plain tuples, in the order of _engine.pyi.
using PyPiece = std::tuple<unsigned, unsigned, unsigned>;
using PyNumber = std::tuple<std::vector<PyPiece>, unsigned, u64, u64, u64>;
using PyExtent = std::tuple<std::string, PyNumber, PyNumber, PyNumber, PyNumber>;
using PyTest = std::tuple<std::string, PyNumber, u64, u64, std::optional<std::size_t>>;
using PyAction = std::tuple<std::string, bool, u8, u8, std::optional<std::size_t>, PyNumber, PyNumber, PyNumber,
                            std::optional<PyExtent>>;
using PyCase = std::tuple<std::vector<PyTest>, std::optional<std::vector<PyAction>>>;
using PyRule = std::tuple<std::string, u64, std::vector<u64>, std::vector<PyCase>>;

template <typename Enum, std::size_t size>
Enum named(const char* what, const std::string& name, const std::array<std::pair<const char*, Enum>, size>& names) {
    for (const auto& [known, value] : names)
        if (name == known) return value;
    throw py::value_error(std::string("CommandSet: there is no ") + what + " '" + name + "'");
}

constexpr std::array<std::pair<const char*, cmd::Action::Verb>, 10> verbs{{
    {"everything", cmd::Action::Verb::everything},
    {"stage2_tag", cmd::Action::Verb::stage2_tag},
    {"stage1_tag", cmd::Action::Verb::stage1_tag},
    {"range", cmd::Action::Verb::range},
    {"stage2_range", cmd::Action::Verb::stage2_range},
    {"all_contexts", cmd::Action::Verb::all_contexts},
    {"contexts", cmd::Action::Verb::contexts},
    {"context", cmd::Action::Verb::context},
    {"context_group", cmd::Action::Verb::context_group},
    {"store", cmd::Action::Verb::store},
}};
constexpr std::array<std::pair<const char*, cmd::Extent::Kind>, 3> extents{{
    {"block", cmd::Extent::Kind::block},
    {"sized", cmd::Extent::Kind::sized},
    {"counted", cmd::Extent::Kind::counted},
}};
constexpr std::array<std::pair<const char*, cmd::Test::Kind>, 3> tests{{
    {"within", cmd::Test::Kind::within},
    {"listed", cmd::Test::Kind::listed},
    {"unlisted", cmd::Test::Kind::unlisted},
}};

cmd::Number number(const PyNumber& given, std::size_t bytes) {
    const auto& [pieces, sign_bit, keep, flip, plus] = given;
    std::vector<cmd::Piece> cut;
    for (const auto& [low, width, position] : pieces) cut.push_back({low, width, position});
    return cmd::Number(cut, {sign_bit, keep, flip, plus}, bytes);
}

cmd::Action action(const PyAction& given, std::size_t bytes) {
    const auto& [verb, flag, size, group_lg2, each, first, second, leaf_only, extent] = given;
    cmd::Action made{named("verb", verb, verbs),
                     flag,
                     size,
                     group_lg2,
                     each.value_or(cmd::no_table),
                     number(first, bytes),
                     number(second, bytes),
                     number(leaf_only, bytes),
                     {}};
    if (extent) {
        const auto& [kind, address, span, unit, count] = *extent;
        made.extent = {named("extent", kind, extents), number(address, bytes), number(span, bytes), number(unit, bytes),
                       number(count, bytes)};
    }
    return made;
}

cmd::Case one_case(const PyCase& given, std::size_t bytes) {
    const auto& [conditions, actions] = given;
    cmd::Case made;
    for (const auto& [kind, value, low, high, table] : conditions)
        made.tests.push_back(
            {named("condition", kind, tests), number(value, bytes), low, high, table.value_or(cmd::no_table)});
    if (!actions) return made;
    made.actions.emplace();
    for (const PyAction& one : *actions) made.actions->push_back(action(one, bytes));
    return made;
}

cmd::Rule rule(const PyRule& given, std::size_t bytes) {
    const auto& [name, opcode, zero, cases] = given;
    if (zero.size() > cmd::most_words) throw py::value_error("CommandSet: 'zero' of " + name + " is too long");
    cmd::Rule made;
    made.opcode = opcode;
    std::ranges::copy(zero, made.zero.begin());
    for (const PyCase& one : cases) made.cases.push_back(one_case(one, bytes));
    return made;
}

struct PyCommandSet {
    cmd::CommandSet set;
    std::vector<py::str> names;
    bool names_differ;
};

std::unique_ptr<PyCommandSet> make(std::size_t bytes, const PyNumber& opcode, const std::vector<PyRule>& rules,
                                   std::vector<std::shared_ptr<cmd::Table>> tables) {
    std::vector<cmd::Rule> made;
    std::vector<py::str> names;
    std::set<std::string> different;
    for (const PyRule& one : rules) {
        made.push_back(rule(one, bytes));
        names.emplace_back(std::get<0>(one));
        different.insert(std::get<0>(one));
    }
    for (const auto& table : tables)
        if (!table) throw py::value_error("CommandSet: a table is None");
    const bool differ = different.size() == names.size();
    return std::make_unique<PyCommandSet>(cmd::CommandSet(bytes, number(opcode, bytes), made, std::move(tables)),
                                          std::move(names), differ);
}

// Two opcodes may have one name.
py::dict kinds_of(const PyCommandSet& commands, std::span<const u64> counts) {
    py::dict kinds;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (!counts[i]) continue;
        const py::str& name = commands.names[i];
        u64 count = counts[i];
        if (!commands.names_differ && kinds.contains(name)) count += kinds[name].cast<u64>();
        const py::object number = owned(PyLong_FromUnsignedLongLong(count));
        if (PyDict_SetItem(kinds.ptr(), name.ptr(), number.ptr())) throw py::error_already_set();
    }
    return kinds;
}

// Runs without the GIL; gives how many entries were executed, and of what kinds.
template <typename Run> py::tuple ran(const PyCommandSet& commands, Run&& run) {
    std::array<u64, cmd::CommandSet::most_rules> all;
    const std::span counts(all.data(), commands.set.rules());
    std::ranges::fill(counts, 0);
    std::size_t done = 0;
    {
        py::gil_scoped_release unlocked;
        done = run(counts);
    }
    py::tuple answer(2);
    PyTuple_SET_ITEM(answer.ptr(), 0, py::int_(done).release().ptr());
    PyTuple_SET_ITEM(answer.ptr(), 1, kinds_of(commands, counts).release().ptr());
    return answer;
}

// A view of a buffer's bytes, wherever they are one run.
class Bytes {
public:
    explicit Bytes(const py::buffer& source) {
        if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_SIMPLE)) throw py::error_already_set();
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    std::span<const std::byte> get() const {
        return {static_cast<const std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
    }

private:
    Py_buffer view_;
};

py::tuple run(const PyCommandSet& commands, PyTranslator& translator, const py::buffer& source) {
    const Bytes entries(source);
    if (entries.get().size() % commands.set.entry_bytes())
        throw py::value_error("CommandSet: " + std::to_string(entries.get().size()) + " bytes are no multiple of " +
                              std::to_string(commands.set.entry_bytes()) + ", the size of an entry");
    return ran(commands, [&](std::span<u64> counts) {
        return commands.set.run(entries.get(), cmd::Engine(translator.engine), counts);
    });
}

py::tuple run_ring(const PyCommandSet& commands, PyTranslator& translator, u64 base, unsigned entries_lg2, u64 head,
                   std::size_t count) {
    if (entries_lg2 > most_ring_lg2)
        throw py::value_error("CommandSet: a ring of 2^" + std::to_string(entries_lg2) + " entries; at most 2^32");
    return ran(commands, [&](std::span<u64> counts) {
        return commands.set.run_ring(translator.engine.memory(), base, entries_lg2, head, count,
                                     cmd::Engine(translator.engine), counts);
    });
}

// What is put before these two.
PyObject *run_behind = nullptr, *run_ring_behind = nullptr;

PyObject* fast_run(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    const auto* const commands = held_by<PyCommandSet>(self);
    if (commands && !names && count == 2 && PyObject_CheckBuffer(args[1]))
        if (auto* const translator = translator_of(args[0]))
            return raising([&] { return run(*commands, *translator, py::reinterpret_borrow<py::buffer>(args[1])); });
    return call_behind(run_behind, self, args, count, names);
}
PyObject* fast_run_ring(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    const auto* const commands = held_by<PyCommandSet>(self);
    u64 base, lg2, head, entries;
    if (commands && !names && count == 5 && read_number(args[1], ~u64{0}, base) &&
        read_number(args[2], most_ring_lg2, lg2) && read_number(args[3], ~u64{0}, head) &&
        read_number(args[4], ~u64{0}, entries)) {
        if (auto* const translator = translator_of(args[0]))
            return raising(
                [&] { return run_ring(*commands, *translator, base, static_cast<unsigned>(lg2), head, entries); });
    }
    return call_behind(run_ring_behind, self, args, count, names);
}

// A table's lock is held while commands run, which may ask for the GIL (memory callbacks).
template <typename Call> auto without_gil(Call&& call) {
    py::gil_scoped_release unlocked;
    return call();
}

}  // namespace

void bind_commands(py::module_& m) {
    using Table = cmd::Table;
    py::class_<Table, std::shared_ptr<Table>>(m, "CommandTable", py::is_final(), "What numbers in commands stand for.")
        .def(py::init<>())
        .def(
            "add", [](Table& t, u64 key, u32 value) { without_gil([&] { t.add(key, value); }); }, "key"_a, "value"_a)
        .def(
            "remove", [](Table& t, u64 key, u32 value) { without_gil([&] { t.remove(key, value); }); }, "key"_a,
            "value"_a)
        .def("clear", [](Table& t) { without_gil([&] { t.clear(); }); })
        .def("values", [](Table& t, u64 key) { return without_gil([&] { return t.values(key); }); }, "key"_a);
    py::class_<PyCommandSet> set(m, "CommandSet", py::is_final(), "Commands of one queue, as they were described.");
    set.def(py::init(&make), "entry_bytes"_a, "opcode"_a, "rules"_a, "tables"_a = std::vector<std::shared_ptr<Table>>())
        .def_property_readonly("entry_bytes", [](const PyCommandSet& c) { return c.set.entry_bytes(); })
        .def("run", &run, "translator"_a, "entries"_a)
        .def("run_ring", &run_ring, "translator"_a, "base"_a, "entries_lg2"_a, "head"_a, "count"_a);
    run_behind = put_before<fast_run>(set, "run");
    run_ring_behind = put_before<fast_run_ring>(set, "run_ring");
}

}  // namespace viommu
