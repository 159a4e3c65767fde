#include "channel.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "answers.hpp"
#include "blocked.hpp"
#include "forks.hpp"
#include "internal.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

const char* service_path() {
    static const char* const path = getenv(socket_variable);
    return path;
}

// What tells this address space from the parent's and from what an exec replaces.
struct Token {
    u8 bytes[token_bytes];
} token;

void close_really(int fd) { kernel(SYS_close, fd); }

int connect_to_service() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const char* const path = service_path();
    if (strlen(path) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, path);
    const int fd = open_for_us([] { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); });
    if (fd < 0) return -1;
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address)) {
        close_really(fd);
        return -1;
    }
    return make_internal(fd);
}

struct Packet {
    Message message;
    u8 payload[most_bytes];
};

// One packet, whole. A descriptor goes along where it is 0 or more.
bool send_packet(int fd, const Message& message, const void* payload, int descriptor) {
    iovec parts[2] = {{const_cast<Message*>(&message), sizeof message}, {const_cast<void*>(payload), message.length}};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = parts;
    header.msg_iovlen = message.length ? 2 : 1;
    if (descriptor >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        cmsghdr* const first = CMSG_FIRSTHDR(&header);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(first), &descriptor, sizeof descriptor);
    }
    for (;;) {
        const long sent = kernel(SYS_sendmsg, fd, &header, MSG_NOSIGNAL);
        if (sent >= 0) return sent == static_cast<long>(sizeof message + message.length);
        if (errno != EINTR) return false;
    }
}

bool receive_packet(int fd, Packet& packet, Descriptor& received) {
    iovec part{&packet, sizeof packet};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    long size;
    do size = kernel(SYS_recvmsg, fd, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); size > 0 && each; each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(each), sizeof descriptor);
        received.set(descriptor);
    }
    return size >= static_cast<long>(sizeof(Message)) &&
           size == static_cast<long>(sizeof(Message) + packet.message.length);
}

bool answer_packet(int fd, Packet& packet, Descriptor& received) {
    Answer answer{packet.message, packet.payload, received};
    answer.make();
    return send_packet(fd, packet.message, packet.payload, answer.descriptor());
}

// Lets the service read this process's memory where only relatives may (Yama). Once: the program may name another.
std::atomic<bool> allowed = false;

void allow_reading(int connection) {
    ucred service;
    socklen_t size = sizeof service;
    if (allowed.exchange(true) || getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &service, &size)) return;
    kernel(SYS_prctl, PR_SET_PTRACER, service.pid, 0, 0, 0);
}

// A connection that has said who it is, or -1.
int greeted(Greeting greeting) {
    const int fd = connect_to_service();
    if (fd < 0) return -1;
    if (greeting == Greeting::reachable) allow_reading(fd);
    Message hello = question(Op::hello, static_cast<u64>(greeting));
    hello.length = token_bytes;
    if (send_packet(fd, hello, token.bytes, -1)) return fd;
    close_internal(fd);
    return -1;
}

// A thread that answers what the service asks while no thread of the program waits for it: devices reach memory at any
// time. One in each process, from its first question on.
std::atomic<bool> helped = false;

void* help(void* connection) {
    const int fd = static_cast<int>(reinterpret_cast<intptr_t>(connection));
    Packet* const packet = static_cast<Packet*>(malloc(sizeof(Packet)));
    while (packet) {
        Descriptor received;
        if (!receive_packet(fd, *packet, received) || !answer_packet(fd, *packet, received)) break;
    }
    free(packet);
    close_internal(fd);
    return nullptr;
}

// All signals are blocked here, so that the thread takes none of the program's.
void start_helper() {
    if (helped || is_borrower() || helped.exchange(true)) return;
    const int fd = greeted(Greeting::helper);
    Packet* const packet = fd < 0 ? nullptr : static_cast<Packet*>(malloc(sizeof(Packet)));
    if (!packet) return;
    Descriptor received;
    const bool known = receive_packet(fd, *packet, received);
    free(packet);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    pthread_t thread;
    if (!known || pthread_create(&thread, &attributes, help, reinterpret_cast<void*>(intptr_t{fd}))) close_internal(fd);
    pthread_attr_destroy(&attributes);
}

// There is no answer but this.
i64 refused(Message& message, i64 why) {
    message = {};
    return message.result = why;
}

// The connection of this thread. A child makes one of its own; one that borrows its parent's memory uses its parent's,
// which waits for it, or one that the parent never knows of.
class Channel {
public:
    ~Channel() { drop(); }

    i64 ask(Message& message, Descriptor* received, const Payload& payload) {
        if (message.op != Op::owns) start_helper();  // most programs only ask what they inherited, and nothing more
        const bool is_new = fd_ < 0;
        if (is_new && !open()) return refused(message, errno == EMFILE || errno == ENFILE ? -errno : -ENODEV);
        const i64 result = answered(message, received, payload);
        if (is_new && is_borrower()) drop();
        return result;
    }

    void forget() { fd_ = -1; }

private:
    i64 answered(Message& message, Descriptor* received, const Payload& payload) {
        if (!send_packet(fd_, message, payload.bytes, -1) && !sent_without(message)) return lost(message);
        for (;;) {
            Descriptor descriptor;
            if (!receive_packet(fd_, packet_, descriptor)) return lost(message);
            if (packet_.message.op == Op::answer) {
                message = packet_.message;
                if (message.length > payload.capacity) return lost(message);
                if (message.length) memcpy(payload.room, packet_.payload, message.length);
                if (received && descriptor.get() >= 0) received->set(descriptor.take());
                return message.result;
            }
            if (!serve(descriptor)) return lost(message);
        }
    }

    // What was to go along is not there any more: another thread unmapped it just now.
    bool sent_without(Message& message) {
        if (errno != EFAULT) return false;
        message.length = 0;
        return send_packet(fd_, message, nullptr, -1);
    }
    bool open() { return (fd_ = greeted(Greeting::reachable)) >= 0; }
    bool serve(Descriptor& descriptor) { return answer_packet(fd_, packet_, descriptor); }
    i64 lost(Message& message) {
        drop();
        return refused(message, -ENODEV);
    }
    void drop() {
        if (fd_ >= 0) close_internal(fd_);
        fd_ = -1;
    }

    int fd_ = -1;
    Packet packet_;
};

// Made at a thread's first question, so that threads that never ask need no room for packets.
pthread_key_t key;
__thread Channel* own_channel;

void delete_channel(void* channel) {
    own_channel = nullptr;
    static_cast<Channel*>(channel)->~Channel();
    free(channel);
}

Channel* channel() {
    if (!own_channel) {
        void* const room = malloc(sizeof(Channel));
        if (!room) return nullptr;
        own_channel = new (room) Channel;
        pthread_setspecific(key, own_channel);
    }
    return own_channel;
}

void new_token() {
    if (getrandom(token.bytes, sizeof token.bytes, 0) != sizeof token.bytes) {
        const pid_t pid = getpid();
        memcpy(token.bytes, &pid, sizeof pid);
    }
}

}  // namespace

Descriptor::~Descriptor() {
    if (fd_ >= 0) close_really(fd_);
}
void Descriptor::set(int fd) {
    if (fd_ >= 0) close_really(fd_);
    fd_ = fd;
}

bool serviced() { return service_path() && *service_path(); }

i64 ask(Message& message, Descriptor* received, const Payload& payload) {
    if (!serviced()) return refused(message, -ENODEV);
    const int kept = errno;
    const SignalsBlocked blocked;  // a handler that asks must not meet us in the middle
    notice_child();
    Channel* const own = channel();
    const i64 result = own ? own->ask(message, received, payload) : refused(message, -ENOMEM);
    errno = kept;
    return result;
}

i64 ask(Op op, u64 a, u64 b, u64 c, u64 d) {
    Message message = question(op, a, b, c, d);
    return ask(message);
}

void connections_in_child() {
    if (own_channel) own_channel->forget();
    helped = allowed = false;
    new_token();
}

__attribute__((constructor(150))) void begin_channels() {
    if (!serviced()) return;
    pthread_key_create(&key, delete_channel);
    new_token();
}

}  // namespace viommu::shim
