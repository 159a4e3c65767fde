"""What programs ask of an open file: ioctls, reads and writes, mappings, and accesses of registers that are mapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from viommu.iommufd.fd import IommuFd
from viommu.objects.mmap import RegisterMapping
from viommu.service.mappings import room_of
from viommu.service.window import Window
from viommu.service.wire import Op, Packet
from viommu.vfio.device_file import DeviceFile, LendingProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.service.files import Served
    from viommu.service.mappings import Mappings

ANSWER = int(Op.ANSWER)
ACCESSES = frozenset({int(Op.LOAD), int(Op.STORE)})
LOW_HALF = 0xFFFF_FFFF
MOST_LOADED = 64
"""Bytes, by one instruction."""


class Caller(LendingProcess, Protocol):
    """Who asks: a program, or who stands in its place."""

    def carry(self, window: Window) -> Window:
        """Take bytes of its memory that came along with the call that is being answered."""


def answer(served: Served, program: Caller, question: Packet, mappings: Mappings, maker: object) -> Packet:
    """Answer a question about a file. ``maker``: who will map what it is given."""
    if question.op in ACCESSES and isinstance(served.file, IommuFd):
        return _access(served.file, question, mappings)
    call = CALLS.get(question.op)
    if call is not None:
        return call(served, program, question)
    return _map(served, question, mappings, maker) if question.op == Op.MAP else result(-errno.ENOSYS)


def result(value: int) -> Packet:
    """Give an answer that is told by its result alone."""
    return Packet.of(Op.ANSWER, result=value)


def _ioctl(served: Served, program: Caller, question: Packet) -> Packet:
    operation = getattr(served.file, "ioctl", None)
    if operation is None:
        return result(-errno.ENOTTY)
    _, number, address, _ = question.words
    argument = program.carry(Window(address, question.payload))
    value = int(operation(number, address, program))
    offset, stored = argument.take()
    return Packet(ANSWER, (offset, 0, 0, 0), value, stored)


def _read(served: Served, program: Caller, question: Packet) -> Packet:
    _, address, count, position = question.words
    return _moved(served, served.file.read(program, address, count, position))


def _write(served: Served, program: Caller, question: Packet) -> Packet:
    _, address, count, position = question.words
    return _moved(served, served.file.write(program, address, count, position))


def _moved(served: Served, value: int) -> Packet:
    """Answer a read or a write, and let the program's end poll as the file does now."""
    return Packet.of(Op.ANSWER, served.readable.take_surplus(), result=value)


# --- registers that are mapped


def _map(served: Served, question: Packet, mappings: Mappings, maker: object) -> Packet:
    _, length, how, offset = question.words
    prot, flags = how & LOW_HALF, how >> 32
    if isinstance(served.file, DeviceFile):
        refused = served.file.mmap(length, prot, flags, offset)
        return result(refused) if refused else Packet.of(Op.ANSWER, 1, fd=room_of(length))
    if not isinstance(served.file, IommuFd):
        return result(-errno.ENODEV)
    mapping = served.file.mmap(length, prot, flags, offset)
    if not isinstance(mapping, RegisterMapping):
        return result(mapping)
    try:
        fd, trapped = mappings.add(mapping, maker)
    except OSError as error:
        return result(-(error.errno or errno.ENOMEM))
    return Packet.of(Op.ANSWER, trapped, fd=fd)


def _load(served: Served, program: Caller, question: Packet) -> Packet:
    _, position, count, _ = question.words
    count = min(count, MOST_LOADED)
    window = program.carry(Window(0, bytes(count)))
    value = served.file.read(program, 0, count, position)
    return result(value) if value < 0 else _loaded(window.take()[1])


def _store(served: Served, program: Caller, question: Packet) -> Packet:
    position, data = question.words[1], question.payload
    program.carry(Window(0, data))
    return result(served.file.write(program, 0, len(data), position))


def _access(file: IommuFd, question: Packet, mappings: Mappings) -> Packet:
    """Answer an access of registers of a guest's that are no memory."""
    _, position, count, _ = question.words
    mapping, offset = mappings.find(file.context, position)
    if mapping is None:
        return result(-errno.EFAULT)
    if question.op == Op.LOAD:
        return _loaded(mapping.read(offset, min(count, MOST_LOADED)))
    mapping.write(offset, question.payload)
    return result(len(question.payload))


def _loaded(data: bytes) -> Packet:
    return Packet.of(Op.ANSWER, result=len(data), payload=data)


CALLS: Mapping[int, Callable[[Served, Caller, Packet], Packet]] = {
    int(op): call
    for op, call in (
        (Op.IOCTL, _ioctl),
        (Op.READ, _read),
        (Op.WRITE, _write),
        (Op.LOAD, _load),
        (Op.STORE, _store),
    )
}
