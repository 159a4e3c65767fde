// Registers as shared memory: pages, and who waits for stores to them.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "common.hpp"
#include "viommu/register_watch.hpp"

namespace viommu {
namespace {

constexpr u64 page_bytes = 4096;

// Memory that others may map, and that nobody can make smaller under us.
class SharedMemory {
public:
    explicit SharedMemory(u64 length) : length_(length) {
        fd_ = memfd_create("viommu registers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd_ < 0) raise_os_error(errno);
        void* mapped = MAP_FAILED;
        if (!ftruncate(fd_, static_cast<off_t>(length)) &&
            !fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
            mapped = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
        if (mapped == MAP_FAILED) {
            const int why = errno;
            close(fd_);
            raise_os_error(why);
        }
        bytes_ = static_cast<std::byte*>(mapped);
    }
    ~SharedMemory() {
        munmap(bytes_, length_);
        close(fd_);
    }
    SharedMemory(const SharedMemory&) = delete;

    std::byte* bytes() const { return bytes_; }
    u64 length() const { return length_; }
    int fd() const { return fd_; }

private:
    std::byte* bytes_;
    u64 length_;
    int fd_;
};

class PyRegisterPage : SharedMemory, public RegisterPage {
public:
    PyRegisterPage(u64 length, const std::vector<std::pair<u32, u32>>& words)
        : SharedMemory(checked(length)), RegisterPage(bytes(), words_of(length, words)) {}

    using SharedMemory::bytes, SharedMemory::fd, SharedMemory::length;

    void check(std::size_t index) const {
        if (index >= size()) throw py::index_error("RegisterPage: there are " + std::to_string(size()) + " words");
    }

private:
    static u64 checked(u64 length) {
        if (!length || length % page_bytes)
            throw py::value_error("RegisterPage: length " + hex(length) + " is no whole number of pages");
        return length;
    }
    static std::vector<Word> words_of(u64 length, const std::vector<std::pair<u32, u32>>& words) {
        std::vector<Word> made;
        for (const auto& [offset, size] : words) {
            if ((size != 4 && size != 8) || offset % size || offset >= length)
                throw py::value_error("RegisterPage: word of " + std::to_string(size) + " bytes at " + hex(offset) +
                                      " is not one of 4 or 8 at a multiple of that, below " + hex(length));
            made.push_back({offset, size});
        }
        return made;
    }
};

std::vector<std::pair<std::size_t, u64>> take(PyRegisterPage& page) {
    std::vector<std::pair<std::size_t, u64>> stored;
    for (const auto& [index, value] : page.take()) stored.emplace_back(index, value);
    return stored;
}

}  // namespace

void bind_register_page(py::module_& m) {
    using Page = PyRegisterPage;
    py::class_<Page, std::shared_ptr<Page>>(m, "RegisterPage", py::is_final(), py::buffer_protocol())
        .def(py::init<u64, const std::vector<std::pair<u32, u32>>&>(), "length"_a, "words"_a)
        .def_property_readonly("fd", [](const Page& page) { return page.fd(); })
        .def("take", &take)
        .def(
            "shown", [](const Page& page, std::size_t index) { return page.check(index), page.shown(index); },
            "index"_a)
        .def(
            "show",
            [](Page& page, std::size_t index, u64 before, u64 value) {
                return page.check(index), page.show(index, before, value);
            },
            "index"_a, "before"_a, "value"_a)
        .def_buffer([](const Page& page) {
            return py::buffer_info(reinterpret_cast<u8*>(page.bytes()), static_cast<py::ssize_t>(page.length()));
        });
    py::class_<RegisterWatch>(m, "RegisterWatch", py::is_final())
        .def(py::init<>())
        .def(
            "add", [](RegisterWatch& watch, const std::shared_ptr<Page>& page) { watch.add(page); }, "page"_a)
        .def(
            "remove", [](RegisterWatch& watch, const std::shared_ptr<Page>& page) { watch.remove(page); }, "page"_a,
            py::call_guard<py::gil_scoped_release>())
        .def("touch", &RegisterWatch::touch)
        .def("end", &RegisterWatch::end)
        .def("wait", &RegisterWatch::wait, py::call_guard<py::gil_scoped_release>());
}

}  // namespace viommu
