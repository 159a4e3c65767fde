"""The two halves of the wire say the same."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from viommu.service.wire import HEADER, MOST_BYTES, NOT_OURS, READABLE, SHARED, TOKEN_BYTES, WRITABLE, Gone, Op, Packet

SHIM = (Path(__file__).parents[2] / "cpp" / "shim" / "wire.hpp").read_text(encoding="utf-8")


def test_both_number_their_questions_alike() -> None:
    ops = re.search(r"enum class Op : u32 \{(.*?)\};", SHIM, re.DOTALL)
    assert ops is not None
    number, found = 0, {}
    for name, value in re.findall(r"^\s+(\w+)(?: = (\d+))?,", ops[1], re.MULTILINE):
        number = int(value) if value else number + 1
        found[name.upper()] = number
    assert found == {op.name: op.value for op in Op}


def test_both_know_the_same_sizes() -> None:
    assert f"static_assert(sizeof(Message) == {HEADER.size})" in SHIM
    assert f"not_ours = {NOT_OURS};" in SHIM
    assert f"token_bytes = {TOKEN_BYTES};" in SHIM
    assert f"most_bytes = {MOST_BYTES // 1024} * 1024;" in SHIM
    assert f"readable = {READABLE}, writable = {WRITABLE}, shared = {SHARED};" in SHIM


def test_a_packet_arrives_as_it_was_sent() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        Packet.of(Op.POKE, 1, 1 << 63, -1, result=-5, payload=b"bytes").send(ours)
        assert Packet.receive(theirs) == Packet(Op.POKE, (1, 1 << 63, (1 << 64) - 1, 0), -5, b"bytes")


@pytest.mark.parametrize("raw", [b"x", HEADER.pack(1, 9, 0, 0, 0, 0, 0), HEADER.pack(1, 0, 0, 0, 0, 0, 0) + b"more"])
def test_what_is_no_packet_ends_the_connection(raw: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(raw)
        with pytest.raises(Gone):
            Packet.receive(theirs)
