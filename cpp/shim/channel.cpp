#include "channel.hpp"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "answers.hpp"
#include "kernel.hpp"

namespace viommu::shim {
namespace {

// Descriptors of our own are kept from the program. More threads than this have none to hide behind, and are refused.
constexpr int most_internal = 1 << 16;
std::atomic<u8> internal[most_internal];
constexpr int lowest_internal = 700;  // above what programs use, below the usual limit of 1024

const char* service_path() {
    static const char* const path = getenv(socket_variable);
    return path;
}

// What tells this address space from the parent's and from what an exec replaces.
struct Token {
    u8 bytes[token_bytes];
} token;

int close_really(int fd) { return static_cast<int>(kernel(SYS_close, fd)); }

int connect_to_service() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const char* const path = service_path();
    if (strlen(path) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, path);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
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

// A connection that has said who it is, or -1.
int greeted(bool helper) {
    const int fd = connect_to_service();
    if (fd < 0) return -1;
    Message hello = question(Op::hello, helper);
    hello.length = token_bytes;
    if (send_packet(fd, hello, token.bytes, -1)) return fd;
    close_internal(fd);
    return -1;
}

// A thread that answers what the service asks while no thread of the program waits for it: devices reach memory at any
// time. One in each process, from its first question on.
std::atomic<pid_t> helped;

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
    const pid_t own = getpid();
    if (helped.exchange(own) == own) return;
    const int fd = greeted(true);
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

// The connection of this thread. A child's first question finds its parent's, and makes one of its own.
class Channel {
public:
    ~Channel() { drop(); }

    i64 ask(Message& message, Descriptor* received) {
        if (owner_ != getpid()) fd_ = -1;
        if (message.op != Op::owns) start_helper();  // most programs only ask what they inherited, and nothing more
        if (fd_ < 0 && !open()) return -ENODEV;
        if (!send_packet(fd_, message, nullptr, -1)) return lost();
        for (;;) {
            Descriptor descriptor;
            if (!receive_packet(fd_, packet_, descriptor)) return lost();
            if (packet_.message.op == Op::answer) {
                message = packet_.message;
                if (received && descriptor.get() >= 0) received->set(descriptor.take());
                return message.result;
            }
            if (!serve(descriptor)) return lost();
        }
    }

    void forget() { fd_ = -1; }

private:
    bool open() {
        fd_ = greeted(false);
        owner_ = getpid();
        return fd_ >= 0;
    }
    bool serve(Descriptor& descriptor) { return answer_packet(fd_, packet_, descriptor); }
    i64 lost() {
        drop();
        return -ENODEV;
    }
    void drop() {
        if (fd_ >= 0) close_internal(fd_);
        fd_ = -1;
    }

    int fd_ = -1;
    pid_t owner_ = 0;
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

void after_fork_in_child() {
    // Its parent's connections are of no use here, and must not outlive their owner.
    if (own_channel) own_channel->forget();
    for (int fd = lowest_internal; fd < most_internal; ++fd) {
        if (internal[fd] != 1) continue;
        internal[fd] = 0;
        close_really(fd);
    }
    new_token();
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

i64 ask(Message& message, Descriptor* received) {
    if (!serviced()) return -ENODEV;
    const int kept = errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // a handler that asks must not meet us in the middle
    Channel* const own = channel();
    const i64 result = own ? own->ask(message, received) : -ENOMEM;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = kept;
    return result;
}

i64 ask(Op op, u64 a, u64 b, u64 c, u64 d) {
    Message message = question(op, a, b, c, d);
    return ask(message);
}

bool is_internal(int fd) { return fd >= 0 && fd < most_internal && internal[fd]; }

int make_internal(int fd) {
    int moved = static_cast<int>(kernel(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest_internal));
    if (moved >= 0)
        close_really(fd);
    else
        moved = fd;  // the limit is low: it stays where it is
    if (moved < most_internal) internal[moved] = 1;
    return moved;
}
void keep_internal_over_fork(int fd) {
    if (is_internal(fd)) internal[fd] = 2;
}
void close_internal(int fd) {
    if (fd < most_internal) internal[fd] = 0;
    close_really(fd);
}

__attribute__((constructor(150))) void begin_channels() {
    if (!serviced()) return;
    pthread_key_create(&key, delete_channel);
    new_token();
    pthread_atfork(nullptr, nullptr, after_fork_in_child);
}

}  // namespace viommu::shim
