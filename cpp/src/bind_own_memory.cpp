// Memory of processes as a kernel reaches it: copies that end where memory does, and what is mapped where in this one.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "common.hpp"
#include "viommu/map_query.hpp"

namespace viommu {
namespace {

constexpr u64 user_end = u64{1} << 47;

bool plausible(u64 address, u64 length) { return address <= user_end && length <= user_end - address; }

iovec at(u64 address, u64 length) { return {reinterpret_cast<void*>(address), length}; }

// A length may be anything: memory for a long copy is only taken where something lies at its end.
constexpr u64 taken_at_once = u64{1} << 20;

bool readable(u64 address) {
    char byte;
    const iovec into{&byte, 1}, from = at(address, 1);
    return process_vm_readv(getpid(), &into, 1, &from, 1, 0) == 1;
}

std::optional<py::bytes> read_own(u64 address, u64 length) {
    if (!length) return py::bytes();
    if (!plausible(address, length)) return std::nullopt;
    if (length > taken_at_once && !readable(address + (length - 1))) return std::nullopt;
    py::bytes out(nullptr, length);
    const iovec into{PyBytes_AS_STRING(out.ptr()), length}, from = at(address, length);
    if (process_vm_readv(getpid(), &into, 1, &from, 1, 0) != static_cast<ssize_t>(length)) return std::nullopt;
    return out;
}

bool write_own(u64 address, const py::buffer& data) {
    const py::buffer_info info = data.request();
    const u64 length = static_cast<u64>(info.size * info.itemsize);
    if (!length) return true;
    if (!plausible(address, length)) return false;
    const iovec from{info.ptr, length}, into = at(address, length);
    return process_vm_writev(getpid(), &from, 1, &into, 1, 0) == static_cast<ssize_t>(length);
}

std::optional<py::bytes> read_process(pid_t process, u64 address, u64 length) {
    if (!plausible(address, length) || length > taken_at_once) return std::nullopt;
    py::bytes out(nullptr, length);
    const iovec into{PyBytes_AS_STRING(out.ptr()), length}, from = at(address, length);
    const ssize_t copied = process_vm_readv(process, &into, 1, &from, 1, 0);
    if (copied < 0 && errno != EFAULT) raise_os_error(errno);
    if (copied != static_cast<ssize_t>(length)) return std::nullopt;
    return out;
}

class Maps {
public:
    Maps() : file_(open("/proc/self/maps", O_RDONLY | O_CLOEXEC)), owner_(getpid()) {}
    ~Maps() {
        if (file_ >= 0) close(file_);
    }
    bool is_of(pid_t process) const { return owner_ == process; }
    int ask(MapQuery& query) const { return file_ < 0 ? ENOTTY : ioctl(file_, map_query_number, &query) ? errno : 0; }

private:
    int file_;
    pid_t owner_;
};

// A child has other mappings than the parent whose file it inherits.
Maps& maps() {
    static std::unique_ptr<Maps> kept;
    if (!kept || !kept->is_of(getpid())) kept = std::make_unique<Maps>();
    return *kept;
}

using Found = std::tuple<u64, u64, u64, u64, u64, u64>;

std::optional<Found> own_mapping(u64 address) {
    MapQuery query;
    query.query_address = address;
    const int error = maps().ask(query);
    if (error == ENOENT) return std::nullopt;
    if (error) raise_os_error(error);
    const u64 device = u64{query.device_major} << 32 | query.device_minor;
    return Found(query.start, query.end, query.flags, query.offset, device, query.inode);
}

}  // namespace

void bind_own_memory(py::module_& m) {
    m.def("read_own", &read_own, "address"_a, "length"_a);
    m.def("write_own", &write_own, "address"_a, "data"_a);
    m.def("read_process", &read_process, "process"_a, "address"_a, "length"_a);
    m.def("own_mapping", &own_mapping, "address"_a);
}

}  // namespace viommu
