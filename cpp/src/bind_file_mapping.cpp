// Stretches of files, mapped shared, for as long as somebody holds them.
#include <sys/mman.h>

#include <cerrno>

#include "common.hpp"
#include "viommu/file_guard.hpp"

namespace viommu {
namespace {

class FileMapping {
public:
    FileMapping(int fd, u64 offset, u64 length, bool writable) : length_(length), writable_(writable) {
        void* const made = mmap(nullptr, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd,
                                static_cast<off_t>(offset));
        if (made == MAP_FAILED) raise_os_error(errno);
        bytes_ = made;
        FileGuard::only().add(start(), length_);
    }
    ~FileMapping() {
        FileGuard::only().remove(start());
        munmap(bytes_, length_);
    }
    FileMapping(const FileMapping&) = delete;

    bool is_whole() const { return FileGuard::only().is_whole(start()); }

    py::buffer_info buffer() const {
        return {static_cast<unsigned char*>(bytes_), static_cast<py::ssize_t>(length_), !writable_};
    }

private:
    u64 start() const { return reinterpret_cast<u64>(bytes_); }

    void* bytes_;
    u64 length_;
    bool writable_;
};

}  // namespace

void bind_file_mapping(py::module_& m) {
    py::class_<FileMapping>(m, "FileMapping", py::is_final(), py::buffer_protocol())
        .def(py::init<int, u64, u64, bool>(), "fd"_a, "offset"_a, "length"_a, "writable"_a)
        .def_property_readonly("is_whole", &FileMapping::is_whole)
        .def_buffer(&FileMapping::buffer);
}

}  // namespace viommu
