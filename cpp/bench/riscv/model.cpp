// The RISC-V IOMMU reference model (riscv-non-isa/riscv-iommu), which the user has a checkout of: its public functions,
// and the functions of a platform that it asks for. It caches two translations, so that all but one page are cold.
#define RVI_IOMMU_NO_SHORT_NAMES
extern "C" {
#include "iommu.h"
}

#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>

#include "world.hpp"

namespace viommu::bench {
namespace {

// What the platform's functions reach; the model has room for one platform.
const std::byte* host;  // of physical address 0, were it there
u64 first_pa, last_pa;

bool there(u64 pa, u64 size) { return pa >= first_pa && pa + size - 1 <= last_pa; }
std::byte* at(u64 pa) { return const_cast<std::byte*>(host + pa); }

constexpr u32 device = 1;
constexpr u64 sv48 = RVI_IOMMU_IOSATP_Sv48;
constexpr unsigned queue_lg2 = 8;

class Model {
public:
    // Stage 1 or nothing; stage 2 or nothing: addresses of their top tables.
    Model(TableRam& ram, std::optional<u64> first, std::optional<u64> second) : ram_(ram) {
        host = reinterpret_cast<const std::byte*>(ram.words()) - ram_start;
        first_pa = ram_start, last_pa = ram_start + ram.size() - 1;
        capabilities_t able{};
        able.version = 0x10, able.Sv48 = 1, able.Sv48x4 = 1, able.pas = 50;
        constexpr u64 page = 4096;
        if (reset_iommu(iommu_.get(), 0, 0, 0, 0, RVI_IOMMU_DDT_Bare, RVI_IOMMU_DDT_1LVL, 0x7F, 0, 0, 0, able, fctl_t{},
                        page, page, page, page, page, page, page, page))
            throw std::runtime_error("the RISC-V model does not reset");
        configure(first, second);
        prepare_queue();
    }

    bool translate(u64 iova, u64& pa) {
        hb_to_iommu_req_t request{};
        request.device_id = device;
        request.tr.iova = iova;
        request.tr.length = 4;
        iommu_to_hb_rsp_t response;
        iommu_translate_iova(iommu_.get(), &request, &response);
        pa = response.trsp.PPN << 12 | (iova & 0xFFF);
        return response.status == SUCCESS;
    }
    std::size_t all(const std::vector<u64>& iovas) {
        u64 sum = 0, pa = 0;
        for (const u64 iova : iovas) {
            if (!translate(iova, pa) || pa != place_of(iova))
                throw std::logic_error("the RISC-V model sends a page elsewhere");
            sum += pa;
        }
        sink = sum;
        return iovas.size();
    }

    // Of sixteen commands thirteen are for a page, two for all of an address space, one for a device.
    void queue(std::size_t commands, u64 iova) {
        for (std::size_t i = 0; i < commands; ++i) {
            command_t c{};
            const std::size_t kind = i % 16;
            if (kind == 15) {
                c.iodir.opcode = RVI_IOMMU_IODIR;
                c.iodir.dv = 1, c.iodir.did = device;
            } else {
                c.iotinval.opcode = RVI_IOMMU_IOTINVAL;
                c.iotinval.pscv = 1, c.iotinval.pscid = 5;
                if (kind < 13) c.iotinval.av = 1, c.iotinval.addr_63_12 = (iova >> 12) + i;
            }
            std::memcpy(at(queue_ + i * sizeof c), &c, sizeof c);
        }
    }
    std::size_t execute(std::size_t commands) {
        iommu_->reg_file.cqh.index = 0;
        write_register(iommu_.get(), RVI_IOMMU_CQT_OFFSET, 4, commands);
        for (std::size_t i = 0; i < commands; ++i) process_commands(iommu_.get());
        if (iommu_->reg_file.cqh.index != commands) throw std::logic_error("the RISC-V model refused a command");
        return commands;
    }

private:
    void configure(std::optional<u64> first, std::optional<u64> second) {
        const u64 directory = ram_.take(1);
        device_context_t context{};
        context.tc.V = 1;
        if (first) context.fsc.iosatp.PPN = *first >> 12, context.fsc.iosatp.MODE = sv48;
        if (second) context.iohgatp.PPN = *second >> 12, context.iohgatp.MODE = RVI_IOMMU_IOHGATP_Sv48x4;
        context.ta.PSCID = 5;
        std::memcpy(at(directory + device * RVI_IOMMU_BASE_FORMAT_DC_SIZE), &context, RVI_IOMMU_BASE_FORMAT_DC_SIZE);
        ddtp_t ddtp{};
        ddtp.iommu_mode = RVI_IOMMU_DDT_1LVL, ddtp.ppn = directory >> 12;
        write_register(iommu_.get(), RVI_IOMMU_DDTP_OFFSET, 8, ddtp.raw);
    }
    void prepare_queue() {
        queue_ = ram_.take(1);
        cqb_t base{};
        base.ppn = queue_ >> 12, base.log2szm1 = queue_lg2 - 1;
        write_register(iommu_.get(), RVI_IOMMU_CQB_OFFSET, 8, base.raw);
        cqcsr_t control{};
        control.cqen = 1;
        write_register(iommu_.get(), RVI_IOMMU_CQCSR_OFFSET, 4, control.raw);
        if (!iommu_->reg_file.cqcsr.cqon) throw std::runtime_error("the RISC-V model's command queue does not start");
    }

    TableRam& ram_;
    u64 queue_ = 0;
    std::unique_ptr<iommu_t> iommu_ = std::make_unique<iommu_t>();
};

// One page again and again is the one kind of hit that two entries give.
std::vector<u64> same(u64 iova) { return std::vector<u64>(rows_of_a_batch, iova); }

struct OneStage {
    explicit OneStage(std::size_t pages) : ram(ManyPages::tables_for(pages) + 4), tables(ram, test::layout::riscv) {
        tables.map(range, data_start, pages);
    }
    TableRam ram;
    ManyPages tables;
    Model model{ram, tables.root(), std::nullopt};
};

struct BothStages {
    explicit BothStages(std::size_t pages)
        : ram(2 * ManyPages::tables_for(pages) + ManyPages::tables_for(million) + 32) {
        second.map(0, ram_start, ram.size() / 4096);
        second.map(ipa_start, data_start, pages);
        first.map(range, ipa_start, pages);
    }
    TableRam ram;
    ManyPages first{ram, test::layout::riscv, ~ram_start + 1}, second{ram, test::layout::riscv, 0, 4};
    Model model{ram, first.root(), second.root()};
};

template <typename World> Path path(std::string name, const std::shared_ptr<World>& w, std::vector<u64> iovas) {
    return {std::move(name), [w, iovas = std::move(iovas)] { return w->model.all(iovas); }};
}
// Few rows of many pages: the model takes its time.
std::vector<u64> rows(std::size_t pages) {
    std::vector<u64> iovas = shuffled(pages_from(range, pages));
    iovas.resize(rows_of_a_batch);
    return iovas;
}

Paths hits() {
    const auto w = std::make_shared<OneStage>(thousand);
    return {path("RISC-V model, hit", w, same(range))};
}
Paths cold(std::size_t pages) {
    const auto w = std::make_shared<OneStage>(pages);
    return {path("RISC-V model, cold Sv48", w, rows(pages))};
}
Paths nested(std::size_t pages) {
    const auto w = std::make_shared<BothStages>(pages);
    return {path("RISC-V model, cold Sv48 + Sv48x4", w, rows(pages))};
}
Paths commands() {
    const auto w = std::make_shared<OneStage>(thousand);
    constexpr std::size_t of_a_call = 64, calls = 100;
    w->model.queue(of_a_call, range);
    return {{"RISC-V model, command", [w] {
                 for (std::size_t i = 0; i < calls; ++i) w->model.execute(of_a_call);
                 return calls * of_a_call;
             }}};
}

}  // namespace
}  // namespace viommu::bench

extern "C" {

// The platform. Accesses are of 4, 8 or more bytes, in this machine's order.
uint8_t read_memory(uint64_t pa, uint8_t size, char* data, uint32_t, uint32_t, uint32_t, int) {
    using namespace viommu::bench;
    if (!there(pa, size)) return 1;
    std::memcpy(data, at(pa), size);
    return 0;
}
uint8_t read_memory_for_AMO(uint64_t pa, uint8_t size, char* data, uint32_t rcid, uint32_t mcid, uint32_t pma,
                            int endian) {
    return read_memory(pa, size, data, rcid, mcid, pma, endian);
}
uint8_t write_memory(char* data, uint64_t pa, uint32_t size, uint32_t, uint32_t, uint32_t, int) {
    using namespace viommu::bench;
    if (!there(pa, size)) return 1;
    std::memcpy(at(pa), data, size);
    return 0;
}
void iommu_to_hb_do_global_observability_sync(uint8_t, uint8_t) {}
void send_msg_iommu_to_hb(ats_msg_t*) {}
void get_attribs_from_req(hb_to_iommu_req_t* request, uint8_t* read, uint8_t* write, uint8_t* exec, uint8_t* priv) {
    *write = request->tr.read_writeAMO == RVI_IOMMU_WRITE;
    *read = !*write;
    *exec = *priv = 0;
}
void handle_virtual_interrupt_file_overlap(device_context_t*, uint64_t, uint64_t*) {}
}

int main(int count, char** arguments) {
    using namespace viommu::bench;
    Groups groups;
    groups.add("hits, 1k pages", hits);
    for (const std::size_t pages : {some, million}) {
        groups.add("cold, " + counted(pages) + " pages", [=] { return cold(pages); });
        groups.add("nested, " + counted(pages) + " pages", [=] { return nested(pages); });
    }
    groups.add("commands", commands);
    return groups.main(count, arguments);
}
