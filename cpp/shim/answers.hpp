// What the service asks back about this program.
#pragma once

#include "channel.hpp"
#include "wire.hpp"

namespace viommu::shim {

// Answers in place: the question's message and payload become those of the answer.
class Answer {
public:
    Answer(Message& message, u8* payload, Descriptor& received)
        : message_(message), payload_(payload), received_(received) {}
    ~Answer();

    void make();
    // What goes along, or -1.
    int descriptor() const { return descriptor_; }

private:
    i64 peek();
    i64 poke();
    i64 file();
    i64 area();
    i64 populate();
    i64 install();
    i64 uninstall();
    i64 share();
    i64 exchange();
    void lend(int fd, bool ours);

    Message& message_;
    u8* payload_;
    Descriptor& received_;
    int descriptor_ = -1;
    bool owned_ = false;
};

}  // namespace viommu::shim
