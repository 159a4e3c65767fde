"""A program that drove a real kernel's SMMUv3 vIOMMU path, replayed: every ioctl is answered as that kernel did.

Closing of event files is not recorded, nor are the tables that the program built: DMA and events are judged by the
captures. That it "closed testdev cdev" did not unbind the device, whose registers it still had mapped.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field

from tests.plugins.smmuv3_cmdqv.program import PAGE, RECORDED, Program
from viommu import Machine
from viommu.kernel_errors import Invalid, KernelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.endpoint import Endpoint
    from viommu.objects.device import Device

Record = dict[str, Any]
RECORDING = Path(__file__).parent.parent.parent / "data" / "oracle" / "smmuv3-nested.jsonl"
STREAMS = {"edu": 0x28, "testdev": 0x30}
MEMFD, LOWEST_MAPPED = 6, 1 << 20
IOAS_MAP, IOAS_MAP_FILE, FAULT_ALLOC, VEVENTQ_ALLOC, DESTROY = 0x3B85, 0x3B8F, 0x3B8E, 0x3B93, 0x3B80
FILES = {FAULT_ALLOC: 12, VEVENTQ_ALLOC: 24}
"""Where the reply has the number of a file."""


@define(eq=False)
class Vfio:
    """A device in VFIO's hands, as far as the program used it."""

    program: Program
    endpoint: Endpoint
    device: Device | None = None

    def call(self, name: str, raw: bytes) -> tuple[int, bytes]:
        """Answer an ioctl of the device's file: 0 or a negative errno, and the structure afterwards."""
        try:
            return 0, getattr(self, name.lower().removeprefix("vfio_device_"))(raw)
        except KernelError as error:
            return -error.code, raw

    def bind_iommufd(self, raw: bytes) -> bytes:
        if self.device is not None:
            raise Invalid("device", "owner", bound="none yet")
        self.device = self.program.bind(self.endpoint)
        return raw[:12] + struct.pack("<I", self.device.id) + raw[16:]

    def attach_iommufd_pt(self, raw: bytes) -> bytes:
        if self.device is None:
            raise Invalid("device", "owner", bound="bound before it is attached")
        target = struct.unpack_from("<I", raw, 8)[0]
        with self.program.file.context.lock:
            attached = 0 in self.device.group.attachments
            hwpt = (self.device.replace if attached else self.device.attach)(target)
        return raw[:8] + struct.pack("<I", hwpt.id) + raw[12:]

    def detach_iommufd_pt(self, raw: bytes) -> bytes:
        assert self.device is not None
        with self.program.file.context.lock:
            self.device.detach()
        return raw


@define(eq=False)
class Replay:
    """The program again: what it had at an address is at another one here."""

    program: Program
    devices: dict[str, Vfio]
    memfd: int
    memory: dict[int, NDArray[np.uint8]] = field(factory=dict)
    open: dict[int, int] = field(factory=dict)
    """Open event files, by the id of their object."""
    wrong: list[str] = field(factory=list)

    @classmethod
    def make(cls) -> Replay:
        program = Program.on(Machine("smmuv3_cmdqv", registers=RECORDED))
        devices = {name: Vfio(program, program.machine.add_device(sid)) for name, sid in STREAMS.items()}
        memfd = os.memfd_create("recorded")
        os.ftruncate(memfd, 0x10000)
        return cls(program, devices, memfd)

    def step(self, record: Record) -> None:
        if record["type"] != "ioctl":
            return
        if record["fd"] == "iommufd":
            found, pointed = self.iommufd(record)
        else:
            found, pointed = self.devices[record["fd"]].call(record["name"], bytes.fromhex(record["in"])), None
        self.compare(record, found, pointed)

    def iommufd(self, record: Record) -> tuple[tuple[int, bytes], bytes | None]:
        raw, number = bytearray.fromhex(record["in"]), int(record["req"], 16)
        if number == DESTROY and record["ret"] == 0:
            self.close(struct.unpack_from("<I", raw, 4)[0])
        kept = bytes(raw)
        pointer, buffer = self.substitute(record, raw, number)
        struct_buffer = ctypes.create_string_buffer(bytes(raw), max(len(raw), PAGE))
        process = self.program.machine.process
        result = self.program.file.ioctl(number, ctypes.addressof(struct_buffer), process)
        after = bytearray(struct_buffer.raw[: len(raw)])
        for at, size in pointer:
            after[at : at + size] = kept[at : at + size]
        if result == 0 and number in FILES:
            self.remember_file(number, after, bytes.fromhex(record["out"]))
        pointed = None if buffer is None else buffer[: record["ptr"]["len"]].tobytes()
        return (result, bytes(after)), pointed

    def substitute(
        self, record: Record, raw: bytearray, number: int
    ) -> tuple[list[tuple[int, int]], NDArray[np.uint8] | None]:
        """Put our addresses in the place of the program's: where that was, and what the pointer points to."""
        if "ptr" in record:
            told = record["ptr"]
            buffer = self.program.buffer(max(PAGE, told["len"]))
            buffer[: told["len"]] = list(bytes.fromhex(told["in"]))
            struct.pack_into("<Q", raw, told["off"], buffer.ctypes.data)
            return [(told["off"], 8)], buffer
        if number == IOAS_MAP and len(raw) == 40 and struct.unpack_from("<Q", raw, 16)[0] >= LOWEST_MAPPED:
            struct.pack_into("<Q", raw, 16, self.address(*struct.unpack_from("<QQ", raw, 16)))
            return [(16, 8)], None
        if number == IOAS_MAP_FILE and struct.unpack_from("<I", raw, 12)[0] == MEMFD:
            struct.pack_into("<I", raw, 12, self.memfd)
            return [(12, 4)], None
        return [], None

    def address(self, va: int, length: int) -> int:
        """Our memory for the program's; what it maps twice is there once."""
        length = min(length, 1 << 30)
        start, need = va & -PAGE, length + va % PAGE
        held = self.memory.get(start)
        if held is None or len(held) < need:
            held = self.memory[start] = self.program.buffer(need + -need % PAGE or PAGE)
        return held.ctypes.data + va % PAGE

    def remember_file(self, number: int, after: bytearray, recorded: bytes) -> None:
        at = FILES[number]
        object_id = struct.unpack_from("<I", after, 8 if number == FAULT_ALLOC else 20)[0]
        self.open[object_id] = struct.unpack_from("<I", after, at)[0]
        after[at : at + 4] = recorded[at : at + 4]

    def close(self, object_id: int) -> None:
        """Close a file before its object goes, as the program must have done."""
        fd = self.open.pop(object_id, None)
        if fd is not None:
            self.program.machine.process.close(fd)

    def compare(self, record: Record, found: tuple[int, bytes], pointed: bytes | None) -> None:
        result, after = found
        wanted = -record["errno"] if record["ret"] < 0 else record["ret"]
        place = f"{record['seq']} {record['scn']} {record['name']} ({record['comment']})"
        if result != wanted:
            self.wrong.append(f"{place}: {_named(result)}, but the kernel {_named(wanted)}")
        elif after != bytes.fromhex(record["out"]):
            self.wrong.append(f"{place}: {after.hex()}, but the kernel {record['out']}")
        elif pointed is not None and pointed != bytes.fromhex(record["ptr"]["out"]):
            self.wrong.append(f"{place}: data {pointed.hex()}, but the kernel {record['ptr']['out']}")


def _named(result: int) -> str:
    return errno.errorcode.get(-result, str(result))


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [json.loads(line) for line in RECORDING.read_text().splitlines()]


def test_every_ioctl_is_answered_as_the_kernel_answered_it(records: list[Record]) -> None:
    replay = Replay.make()
    for record in records:
        replay.step(record)
    assert not replay.wrong, "\n".join(replay.wrong)
    assert sum(record["type"] == "ioctl" for record in records) == 485
