"""The replay of one recording: a machine like the recorded one, and everything made anew in order."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define, field

from viommu._engine import Iotlb
from viommu.errors import ViommuError, told
from viommu.machine import Machine
from viommu.oracle.comparison import Case
from viommu.oracle.program.accesses import Accesses
from viommu.oracle.program.events import EventReads
from viommu.oracle.program.guest_memory import GuestMemory
from viommu.oracle.program.ioctls import STRUCT_BYTES, Ioctls, compared
from viommu.oracle.program.lines import read_lines
from viommu.oracle.program.memory import ProgramProcess
from viommu.oracle.program.tables import made_by
from viommu.oracle.program.vfio import VfioDevice
from viommu.oracle.recording import RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from viommu.oracle.program.lines import Line
    from viommu.oracle.program.tables import Captures, InForce, Tables

IOMMUFD = "iommufd"
IOTLB_ENTRIES = 1 << 16
"""So many that a translation stays until somebody invalidates it."""
VDEVICE_ALLOC, VDEVICE_BYTES = "IOMMU_VDEVICE_ALLOC", 24


@define
class Replayed:
    """The cases of a recording, one for each scenario, and the machine that it was replayed on."""

    cases: list[Case]
    machine: Machine


def replay_program(path: Path, captures: Captures) -> Replayed:
    """Replay a recording on a machine like that of its captures. Raises RecordingError, CaptureError."""
    lines = list(read_lines(path))
    capture = captures.machine(lines)
    if capture is None:
        raise RecordingError(str(path), 0, "captures", 0, "at least one, of the machine that the program ran on")
    streams, tables = _streams(lines), captures.in_force(lines)
    machine = Machine(capture.driver, registers=capture.registers, iotlb=Iotlb(entries=IOTLB_ENTRIES))
    try:
        run = Run.on(machine, streams, tables)
    except ViommuError as error:
        raise RecordingError(str(path), 0, "devices", streams, told(error)) from error
    for line in lines:
        run.step(line)
    return Replayed(list(run.cases.values()), machine)


@define(eq=False)
class Run:
    """A recording on its way. ``tables`` says what is known of the tables at each DMA and snap, by line number."""

    machine: Machine
    devices: dict[str, VfioDevice]
    ioctls: Ioctls
    accesses: Accesses
    tables: Mapping[int, InForce]
    cases: dict[str, Case] = field(factory=dict)
    loaded: Tables | None = None
    of_another_run: bool = False
    """Whether a capture has shown that it is none of this memory: then none of them is."""

    @classmethod
    def on(cls, machine: Machine, streams: Mapping[str, int], tables: Mapping[int, InForce]) -> Run:
        """Begin on a machine without devices. Raises OutOfRange, Busy, KernelError."""
        process, file = ProgramProcess(machine.memory, new_buffer=machine.buffer), machine.open_file()
        devices = {name: VfioDevice(process, file, machine.add_device(sid)) for name, sid in streams.items()}
        memory = GuestMemory(process)
        ioctls = Ioctls(process, file, memory, EventReads(process))
        return cls(machine, devices, ioctls, Accesses(machine, memory, devices), tables)

    @property
    def events(self) -> EventReads:
        """The vEVENTQ that is open."""
        return self.ioctls.events

    @property
    def memory(self) -> GuestMemory:
        """The guest's memory."""
        return self.ioctls.memory

    def step(self, line: Line) -> None:
        """Let one line happen; what it is of is a case, by its scenario. Raises RecordingError, CaptureError."""
        act = _STEPS.get(line.type)
        if act is not None:
            act(self, line)

    def case(self, line: Line) -> Case:
        """Give the case of a line."""
        name = line.text("scn")
        return self.cases.setdefault(name, Case(line.file, name, judged=True))

    def ioctl(self, line: Line) -> None:
        """Make an ioctl."""
        raw, name = line.data("in"), line.text("name")
        if len(raw) > STRUCT_BYTES:
            raise line.wrong("in", f"at most {STRUCT_BYTES} bytes")
        record, case = line.record, self.case(line)
        if line.text("fd") == IOMMUFD:
            case.count(self.ioctls.make(line, record, bytearray(raw)))
            if name == VDEVICE_ALLOC and line.whole("ret") == 0:
                self.named(raw)
        elif line.text("fd") in self.devices:
            result, after = self.devices[line.text("fd")].call(name, raw)
            case.count(compared(record, result, line.data("out"), after))

    def named(self, raw: bytes) -> None:
        """Take note of how the guest calls a device."""
        if len(raw) < VDEVICE_BYTES:
            return
        dev_id, virt_id = struct.unpack_from("<I4xQ", raw, 8)
        for device in self.devices.values():
            if device.device is not None and device.device.id == dev_id:
                self.events.virtual[device.endpoint.requester] = virt_id & 0xFFFF_FFFF

    def region(self, line: Line) -> None:
        """Take note of where the recorded machine had memory."""
        self.memory.region(line)

    def dma(self, line: Line) -> None:
        """Make a DMA of the program's, if its tables are known."""
        case, found, made = self.case(line), self.in_force(line), made_by(line)
        row = None if found is None else found.row(made)
        disputed = [] if found is None else found.disputed(made)
        if disputed:
            self.events.dispute(disputed)
            case.unjudged += 1
        elif found is None or (row is None and self.accesses.leaves_captured_tables(line)):
            self.events.doubtful = True
            case.unjudged += 1
        else:
            case.count(self.accesses.program(line, row))
            case.learned = self.accesses.learned
            self.events.made(self.accesses.faulted)

    def snap(self, line: Line) -> None:
        """Make what the recorder made with the machine stopped."""
        found = self.in_force(line)
        if found is None:
            self.events.doubtful = True
            return
        self.events.dispute(found.tables.disputed)
        name = f"captured/{found.tables.name}"
        for row in found.tables.probes:
            case = self.cases.setdefault(name, Case(line.file, name, judged=True))
            case.count(self.accesses.probe(line, row))
        self.events.made(self.accesses.faulted)

    def read(self, line: Line) -> None:
        """Read the vEVENTQ."""
        case = self.case(line)
        judged, difference = self.events.read(line)
        self.accesses.faulted.clear()
        if judged:
            case.count(difference)
        else:
            case.unjudged += 1

    def in_force(self, line: Line) -> InForce | None:
        """Give the tables that a line is made with, having put them into the guest's memory; None: unknown."""
        found = self.tables.get(line.number)
        if found is None:
            return None
        if found.tables is not self.loaded and not self.of_another_run:
            self.of_another_run = not found.tables.lie_in(self.memory)
        if self.of_another_run:
            return None
        if found.tables is not self.loaded:
            self.memory.load(found.tables.pages)
            self.loaded = found.tables
            self.machine.translator.invalidate_all()
            self.machine.translator.invalidate_contexts()
        return found


_STEPS: Mapping[str, Callable[[Run, Line], None]] = {
    "ioctl": Run.ioctl,
    "region": Run.region,
    "dma": Run.dma,
    "snap": Run.snap,
    "vevent_read": Run.read,
}


def _streams(lines: Iterable[Line]) -> dict[str, int]:
    """Say which device has which requester id: DMA tells it."""
    return {line.text("dev"): line.whole("sid") for line in lines if line.type == "dma"}
