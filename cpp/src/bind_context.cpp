#include "result.hpp"
#include "viommu/dirty.hpp"

namespace viommu {
namespace {

using RangeArgument = std::pair<u64, u64>;

AddressRange range_of(const char* field, const RangeArgument& range) {
    if (range.first > range.second)
        throw py::value_error(std::string("Context: ") + field + " starts at " + hex(range.first) +
                              ", after its last address " + hex(range.second));
    return {range.first, range.second};
}

// The variants without their empty alternative, as Python passes them.
using Stage1Argument = std::variant<fmt::ArmStage1, fmt::X86, fmt::Riscv, fmt::Described>;
using Stage2Argument = std::variant<fmt::ArmStage2, fmt::VtdSecondStage, fmt::AmdV1, fmt::Riscv, fmt::Described>;

template <typename Stage, typename Argument> Stage stage_of(const std::optional<Argument>& argument) {
    if (!argument) return NoStage{};
    return std::visit([](const auto& format) -> Stage { return format; }, *argument);
}

void check_riscv(const Stage1& stage1, const Stage2& stage2) {
    if (const auto* f = std::get_if<fmt::Riscv>(&stage1); f && f->guest_stage)
        throw py::value_error("Context: stage1 is a Riscv with guest_stage=True: give it as stage2");
    if (const auto* f = std::get_if<fmt::Riscv>(&stage2); f && !f->guest_stage)
        throw py::value_error("Context: stage2 is a Riscv with guest_stage=False: give it as stage1");
}

std::shared_ptr<Context> make_context(const std::optional<Stage1Argument>& stage1,
                                      const std::optional<Stage2Argument>& stage2, u32 stage1_tag, u32 stage2_tag,
                                      unsigned rights, unsigned input_bits,
                                      const std::optional<RangeArgument>& blocked_output,
                                      const std::vector<RangeArgument>& untranslated_input,
                                      std::optional<bool> privileged, std::optional<bool> instruction,
                                      bool privileged_refused, const std::optional<FlatTable>& flat, u32 driver_bits) {
    if (flat && !stage2) throw py::value_error("Context: flat takes pages over from stage2, and there is none");
    ContextSettings settings{.stage1_tag = stage1_tag,
                             .stage2_tag = stage2_tag,
                             .rights = bounded("Context", "rights", rights, 0, access::wants),
                             .input_bits = bounded("Context", "input_bits", input_bits, 0, 64),
                             .blocked_output = {},
                             .untranslated_input = {},
                             .privileged = privileged,
                             .instruction = instruction,
                             .privileged_refused = privileged_refused,
                             .flat = flat,
                             .driver_bits = driver_bits};
    if (blocked_output) settings.blocked_output = range_of("blocked_output", *blocked_output);
    for (const RangeArgument& range : untranslated_input)
        settings.untranslated_input.push_back(range_of("untranslated_input", range));
    auto first = stage_of<Stage1>(stage1);
    auto second = stage_of<Stage2>(stage2);
    check_riscv(first, second);
    return std::make_shared<Context>(std::move(first), std::move(second), settings);
}

template <typename Stage> py::object stage_object(const Stage& stage) {
    return std::visit(
        [](const auto& format) -> py::object {
            if constexpr (std::is_same_v<std::decay_t<decltype(format)>, NoStage>)
                return py::none();
            else
                return py::cast(format);
        },
        stage);
}

Result walk(const Memory& memory, const Context& context, u64 iova, u8 access, bool stores) {
    py::gil_scoped_release unlocked;
    Overlay overlay;
    View view = memory.view(stores ? nullptr : &overlay);
    Unobserved observer;
    Result result;
    context.walk(view, {}, iova, context.overridden(access), result, observer);
    return result;
}

std::pair<Result, std::vector<StepRecord>> explain_walk(const Memory& memory, const Context& context, u64 iova,
                                                        u8 access) {
    py::gil_scoped_release unlocked;
    Overlay overlay;
    View view = memory.view(&overlay);
    Recorder recorder;
    Result result;
    context.walk(view, {}, iova, context.overridden(access), result, recorder);
    view.forget();
    return {result, std::move(recorder.steps)};
}

// One bit a page; the range is bounded so that the bitmap is.
py::array_t<u8> dirty_bitmap(const Memory& memory, const Context& context, u64 start, u64 last, unsigned page_lg2,
                             bool clear) {
    bounded("read_dirty", "page_lg2", page_lg2, 12, 63);
    if (start > last) throw py::value_error("read_dirty: start " + hex(start) + " is after last " + hex(last));
    if ((last >> page_lg2) - (start >> page_lg2) >= u64{1} << 32)
        throw py::value_error("read_dirty: a range of more than 2^32 pages; ask for it in parts");
    std::vector<u8> bytes;
    {
        py::gil_scoped_release unlocked;
        bytes = read_dirty(memory, context, start, last, page_lg2, clear);
    }
    return py::array_t<u8>(static_cast<py::ssize_t>(bytes.size()), bytes.data());
}

const char* verdict_name(Step::Verdict verdict) {
    switch (verdict) {
    case Step::Verdict::table: return "table";
    case Step::Verdict::leaf: return "leaf";
    case Step::Verdict::fault: break;
    }
    return "fault";
}

void bind_step(py::module_& m) {
    py::class_<StepRecord>(m, "Step", py::is_final(), "One entry that a walk read.")
        .def_property_readonly("stage", [](const StepRecord& s) { return static_cast<u8>(s.stage); })
        .def_property_readonly("fault_class", [](const StepRecord& s) { return static_cast<u8>(s.fault_class); })
        .def_property_readonly("kind", [](const StepRecord& s) { return static_cast<u8>(s.kind); })
        .def_property_readonly("verdict", [](const StepRecord& s) { return verdict_name(s.verdict); })
        .def_readonly("format", &StepRecord::format)
        .def_readonly("level", &StepRecord::level)
        .def_readonly("input", &StepRecord::input)
        .def_readonly("address", &StepRecord::address)
        .def_readonly("pa", &StepRecord::pa)
        .def_readonly("raw", &StepRecord::raw)
        .def_readonly("output", &StepRecord::output)
        .def_readonly("page_lg2", &StepRecord::page_lg2)
        .def_readonly("rights", &StepRecord::rights)
        .def_readonly("updated", &StepRecord::updated);
}

}  // namespace

void bind_context(py::module_& m) {
    m.attr("READ") = static_cast<int>(access::read);
    m.attr("WRITE") = static_cast<int>(access::write);
    m.attr("EXECUTE") = static_cast<int>(access::execute);
    m.attr("PRIVILEGED") = static_cast<int>(access::privileged);
    m.attr("TABLE_FETCH") = static_cast<int>(access::table_fetch);
    m.attr("NO_PASID") = no_pasid;
    m.attr("WHOLE") = static_cast<int>(whole_lg2);
    py::tuple kinds(fault_kind_names.size());
    for (std::size_t i = 0; i < fault_kind_names.size(); ++i) kinds[i] = py::str(std::string(fault_kind_names[i]));
    m.attr("FAULT_KINDS") = kinds;

    bind_step(m);
    py::class_<Context, std::shared_ptr<Context>>(m, "Context", py::is_final(),
                                                  "What the translation of one (requester, PASID) needs.")
        .def(py::init(&make_context), py::kw_only(), "stage1"_a = py::none(), "stage2"_a = py::none(),
             "stage1_tag"_a = 0, "stage2_tag"_a = 0, "rights"_a = access::wants, "input_bits"_a = 64,
             "blocked_output"_a = py::none(), "untranslated_input"_a = std::vector<RangeArgument>{},
             "privileged"_a = py::none(), "instruction"_a = py::none(), "privileged_refused"_a = false,
             "flat"_a = py::none(), "driver_bits"_a = 0)
        .def(
            "__eq__", [](const Context& c, const Context& other) { return c == other; }, py::is_operator())
        .def_property_readonly("stage1", [](const Context& c) { return stage_object(c.stage1()); })
        .def_property_readonly("stage2", [](const Context& c) { return stage_object(c.stage2()); })
        .def_property_readonly("stage1_tag", [](const Context& c) { return c.settings().stage1_tag; })
        .def_property_readonly("stage2_tag", [](const Context& c) { return c.settings().stage2_tag; })
        .def_property_readonly("rights", [](const Context& c) { return c.settings().rights; })
        .def_property_readonly("flat", [](const Context& c) { return c.settings().flat; })
        .def_property_readonly("driver_bits", [](const Context& c) { return c.settings().driver_bits; });
    m.def("walk", &walk, "memory"_a, "context"_a, "iova"_a, "access"_a, py::kw_only(), "stores"_a = true);
    m.def("read_dirty", &dirty_bitmap, "memory"_a, "context"_a, "start"_a, "last"_a, "page_lg2"_a = 12, py::kw_only(),
          "clear"_a = false);
    m.def("explain_walk", &explain_walk, "memory"_a, "context"_a, "iova"_a, "access"_a);
}

}  // namespace viommu
