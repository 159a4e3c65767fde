#include "executables.hpp"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "internal.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

constexpr int most_interpreters = 5, most_headers = 256;

#if defined(__x86_64__)
constexpr int this_machine = EM_X86_64;
#else
constexpr int this_machine = EM_AARCH64;
#endif

class File {
public:
    File(int folder, const char* path)
        : fd_(open_for_us([&] {
              return static_cast<int>(kernel(SYS_openat, folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
          })) {}
    ~File() {
        if (fd_ >= 0) kernel(SYS_close, fd_);
    }
    File(const File&) = delete;

    // As many bytes as there are.
    long read(void* into, unsigned long length, unsigned long at) const {
        return kernel(SYS_pread64, fd_, into, length, at);
    }
    int fd() const { return fd_; }

private:
    int fd_;
};

const char* name_of(const char* path) {
    const char* const last = strrchr(path, '/');
    return last ? last + 1 : path;
}

bool begins(const char* text, const char* with) { return !strncmp(text, with, strlen(with)); }

// What loads its libraries; false where nothing does.
bool find_loader(const File& file, const Elf64_Ehdr& head, char* name, unsigned long size) {
    for (int index = 0; index < head.e_phnum && index < most_headers; ++index) {
        Elf64_Phdr part;
        const unsigned long at = head.e_phoff + static_cast<unsigned long>(index) * head.e_phentsize;
        if (file.read(&part, sizeof part, at) != sizeof part) return false;
        if (part.p_type != PT_INTERP) continue;
        const long got = file.read(name, part.p_filesz < size ? part.p_filesz : size - 1, part.p_offset);
        name[got > 0 ? got : 0] = 0;
        return true;
    }
    return false;
}

const char* why_not_by_format(const File& file, const Elf64_Ehdr& head, const char* path) {
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != this_machine)
        return "it is built for another processor, or for 32 bits";
    char loader[256];
    if (!find_loader(file, head, loader, sizeof loader))
        return begins(name_of(path), "ld-linux") ? nullptr : "it is static";
    return begins(name_of(loader), "ld-musl") ? "it is linked with musl" : nullptr;
}

const char* why_not_by_rights(const File& file) {
    struct stat status;
    struct statvfs volume;
    if (kernel(SYS_fstat, file.fd(), &status) || (!fstatvfs(file.fd(), &volume) && volume.f_flag & ST_NOSUID))
        return nullptr;
    if (status.st_mode & S_ISUID && status.st_uid != geteuid()) return "it is setuid";
    if (status.st_mode & S_ISGID && status.st_mode & S_IXGRP && status.st_gid != getegid()) return "it is setgid";
    if (geteuid() && fgetxattr(file.fd(), "security.capability", nullptr, 0) > 0) return "it has capabilities";
    return nullptr;
}

// The first word of a script's first line, in place.
const char* interpreter_of(char* line) {
    line[strcspn(line, "\n")] = 0;
    char* const word = line + 2 + strspn(line + 2, " \t");
    word[strcspn(word, " \t")] = 0;
    return word;
}

const char* why_not(int folder, const char* path, int interpreters) {
    const File file(folder, path);
    union {
        Elf64_Ehdr head;
        char line[256];
    };
    const long got = file.fd() < 0 ? 0 : file.read(line, sizeof line - 1, 0);
    if (got < 2) return nullptr;
    line[got] = 0;
    if (line[0] == '#' && line[1] == '!')
        return interpreters ? why_not(AT_FDCWD, interpreter_of(line), interpreters - 1) : nullptr;
    if (got < static_cast<long>(sizeof head) || memcmp(head.e_ident, ELFMAG, SELFMAG)) return nullptr;
    const char* const reason = why_not_by_format(file, head, path);
    return reason ? reason : why_not_by_rights(file);
}

}  // namespace

const char* why_not_loadable(int folder, const char* path) { return why_not(folder, path, most_interpreters); }

}  // namespace viommu::shim
