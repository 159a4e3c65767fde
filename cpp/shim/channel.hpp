// The connection of one thread to the service.
#pragma once

#include "wire.hpp"

namespace viommu::shim {

// A descriptor that comes with an answer, or -1; closed at the end unless it is taken.
class Descriptor {
public:
    Descriptor() = default;
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    void set(int fd);
    int get() const { return fd_; }
    int take() {
        const int fd = fd_;
        fd_ = -1;
        return fd;
    }

private:
    int fd_ = -1;
};

// Whether this program was started with a service.
bool serviced();

// What goes along with a question: `message.length` bytes, or none where they cannot be read; and room for those of the
// answer, which has no more.
struct Payload {
    const void* bytes = nullptr;
    void* room = nullptr;
    std::size_t capacity = 0;
};

// Asks the service and waits for its answer, serving what it asks back meanwhile: the result, or -ENODEV where there is
// no service any more. `message` becomes the answer. Signals wait; errno stays.
i64 ask(Message& message, Descriptor* received = nullptr, const Payload& payload = {});

// The same, for what is told by its result alone.
i64 ask(Op op, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0);

// A child has no connection yet.
void connections_in_child();

}  // namespace viommu::shim
