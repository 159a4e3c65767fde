"""The host's driver, by iommufd: what governs a device, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field
from recordings import BOUND
from viommu import BusAbort, Fault, Iotlb, Machine, Policy, Translation
from viommu.kernel_errors import Invalid, IoError, Unsupported
from viommu.policies import VmidOwner

from viommu_riscv.host.extensions import TYPE, CommandRiscv, HwInfoRiscv, HwptRiscv, VeventRiscv
from viommu_riscv.host.requests import EVERYTHING, device_tlb
from viommu_riscv.spec.commands import (
    Command,
    Iodir,
    IodirFunction,
    Iofence,
    Iotinval,
    IotinvalFunction,
    Opcode,
)
from viommu_riscv.spec.directories import PdtpMode, ProcessContext, ProcessDirectory, StageMode, TranslationControl
from viommu_riscv.spec.records import Cause, FaultRecord
from viommu_riscv.spec.registers import Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from viommu.api import Device, Hwpt, Ioas, Iommufd, NestedHwpt, Viommu

PAGE = 0x1000
BASE, IOVA = 0x10_0000, 0x40_0000
LEAF, TABLE = 0xD7, 1
VIRTUAL, SPACE = 0x42, 7
FORGET = Iotinval(opcode=Opcode.IOTINVAL, func3=IotinvalFunction.VMA, AV=1, PSCV=1, PSCID=SPACE, ADDR=IOVA)


@define
class Host:
    """A machine with two devices, and an IOAS with memory at BASE, which a guest may think its own."""

    policy: Policy = field(factory=Policy)
    given: dict[str, int] = field(factory=dict)
    machine: Machine = field(init=False)
    iommu: Iommufd = field(init=False)
    device: Device = field(init=False)
    other: Device = field(init=False)
    ioas: Ioas = field(init=False)
    memory: NDArray[np.uint8] = field(init=False)
    next: int = BASE

    def __attrs_post_init__(self) -> None:
        self.machine = Machine(BOUND, "64M", self.given, iotlb=Iotlb(), policy=self.policy)
        self.iommu = self.machine.open_iommufd()
        self.device = self.iommu.bind(self.machine.add_device(0x1_0108, ats=True, page_requests=True, pasid_bits=8))
        self.other = self.iommu.bind(self.machine.add_device(0x33))
        self.memory = self.machine.buffer("1M")
        self.ioas = self.iommu.ioas_alloc()
        self.ioas.map(self.memory, BASE)

    def page(self, text: bytes = b"") -> int:
        """Take a page of the guest's, that begins with a text."""
        at, self.next = self.next, self.next + PAGE
        self.write(at, text)
        return at

    def write(self, address: int, data: bytes) -> None:
        self.memory[address - BASE : address - BASE + len(data)] = list(data)

    def word(self, address: int) -> int:
        return int.from_bytes(self.memory[address - BASE : address - BASE + 8].tobytes(), "little")

    def map(self, root: int, iova: int, page: int) -> None:
        """Map a page in a guest's table."""
        for level in (3, 2, 1):
            at = root + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.word(at):
                self.write(at, (self.page() >> 2 | TABLE).to_bytes(8, "little"))
            root = self.word(at) >> 10 << 12
        self.write(root + (iova >> 12 & 0x1FF) * 8, (page >> 2 | LEAF).to_bytes(8, "little"))

    def guest(self) -> tuple[Viommu, int]:
        """Make a vIOMMU, and a table of the guest's that maps a page at IOVA."""
        parent = self.ioas.hwpt_alloc(self.device, nest_parent=True)
        viommu = parent.viommu_alloc(self.device, TYPE)
        viommu.vdevice_alloc(self.device, VIRTUAL)
        root = self.page()
        self.map(root, IOVA, self.page(b"first"))
        return viommu, root

    def nest(self, viommu: Viommu, root: int) -> NestedHwpt:
        """Let the guest's table govern the device."""
        hwpt = viommu.hwpt_alloc(self.device, HwptRiscv.of(ta=SPACE << 12, fsc=9 << 60 | root >> 12), data_type=TYPE)
        self.device.attach(hwpt)
        return hwpt


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    with made.machine:
        yield made


def requests(*commands: Command) -> list[CommandRiscv]:
    return [CommandRiscv.of(command=command.encode()) for command in commands]


def test_hardware_is_shown_as_it_is(host: Host) -> None:
    info = host.device.hw_info()

    assert info.data_type == TYPE
    assert Capabilities.decode(HwInfoRiscv.decode(info.data).capabilities).Sv57


def test_a_device_is_blocked_until_something_is_attached_and_after_that(host: Host) -> None:
    assert isinstance(host.device.dma_read(BASE, 4), Fault)
    host.device.attach(host.ioas)
    assert host.device.dma_read(BASE, 4) == bytes(4)
    host.device.detach()

    assert isinstance(host.device.dma_read(BASE, 4), Fault)


@pytest.mark.parametrize("nest_parent", [False, True], ids=["first", "second"])
def test_what_is_unmapped_is_forgotten(host: Host, nest_parent: bool) -> None:
    host.device.attach(host.ioas.hwpt_alloc(host.device, nest_parent=nest_parent))
    assert host.device.dma_write(BASE + 0x5000, b"text") is None

    host.ioas.unmap(BASE, 1 << 20)

    assert isinstance(host.device.dma_read(BASE + 0x5000, 4), Fault)


def test_an_iommu_without_ranges_forgets_too() -> None:
    small = Capabilities(version=0x10, Sv39=1, Sv39x4=1, PAS=48, AMO_HWAD=1, IGS=1)
    host = Host(given={"CAPABILITIES": int(small)})
    host.device.attach(host.ioas)
    for at in (0, 0xFF000):
        assert host.device.dma_read(BASE + at, 4) == bytes(4)

    host.ioas.unmap(BASE, 1 << 20)

    assert all(isinstance(host.device.dma_read(BASE + at, 4), Fault) for at in (0, 0xFF000))


def test_processes_have_spaces_of_their_own(host: Host) -> None:
    second = host.iommu.ioas_alloc()
    second.map(host.memory[PAGE:], BASE)
    host.memory[:5], host.memory[PAGE : PAGE + 5] = list(b"plain"), list(b"other")
    host.device.attach(host.ioas.hwpt_alloc(host.device, pasid=True))
    assert host.device.dma_read(BASE, 5) == b"plain"

    host.device.attach(second.hwpt_alloc(host.device, pasid=True), pasid=3)
    assert host.device.dma_read(BASE, 5, pasid=3) == b"other"
    assert host.device.dma_read(BASE, 5) == b"plain"
    assert isinstance(host.device.dma_read(BASE, 5, pasid=4), Fault)
    host.device.detach(pasid=3)

    assert isinstance(host.device.dma_read(BASE, 5, pasid=3), Fault)
    assert host.device.dma_read(BASE, 5) == b"plain"


def test_a_second_stage_is_a_devices_and_no_processs(host: Host) -> None:
    host.device.attach(host.ioas.hwpt_alloc(host.device, nest_parent=True))

    with pytest.raises(Invalid):
        host.device.attach(host.ioas.hwpt_alloc(host.device, pasid=True), pasid=3)


def test_hardware_notes_what_devices_write(host: Host) -> None:
    hwpt = host.ioas.hwpt_alloc(host.device, dirty_tracking=True)
    host.device.attach(hwpt)
    host.device.dma_write(BASE, b"before")
    hwpt.set_dirty_tracking(enable=True)
    host.device.dma_read(BASE + 2 * PAGE, 8)
    host.device.dma_write(BASE + 3 * PAGE, b"after")

    assert _dirty(hwpt) == [3]
    assert _dirty(hwpt) == []
    host.device.dma_write(BASE + 3 * PAGE, b"again")
    assert _dirty(hwpt) == [3]


def test_a_guests_table_stands_on_the_hosts(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)

    found = host.device.translate(IOVA)

    assert host.device.dma_read(IOVA, 5) == b"first"
    assert isinstance(found, Translation)
    assert host.memory[found.ipa - BASE : found.ipa - BASE + 5].tobytes() == b"first"


def test_a_guests_commands_name_its_own_space(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    assert host.device.dma_read(IOVA, 5) == b"first"
    host.map(root, IOVA, host.page(b"other"))
    assert host.device.dma_read(IOVA, 5) == b"first"

    assert viommu.invalidate(requests(FORGET.replace(PSCID=SPACE + 1)), data_type=TYPE) == 1
    assert host.device.dma_read(IOVA, 5) == b"first"
    assert viommu.invalidate(requests(FORGET), data_type=TYPE) == 1

    assert host.device.dma_read(IOVA, 5) == b"other"


def test_a_guests_processes_are_found_in_its_own_directory(host: Host) -> None:
    viommu, root = host.guest()
    directory = host.page()
    at = directory + ProcessContext.size * 5
    host.write(at, ProcessContext(V=1, PSCID=SPACE, fsc_MODE=StageMode.Sv48, fsc_PPN=root).encode())
    given = HwptRiscv.of(
        tc=int(TranslationControl(PDTV=1)), fsc=int(ProcessDirectory(MODE=PdtpMode.PD8, PPN=directory))
    )
    host.device.attach(viommu.hwpt_alloc(host.device, given, data_type=TYPE))
    assert host.device.dma_read(IOVA, 5, pasid=5) == b"first"
    host.write(at, bytes(16))
    assert host.device.dma_read(IOVA, 5, pasid=5) == b"first"

    command = Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT, DV=1, DID=VIRTUAL, PID=5)
    viommu.invalidate(requests(command), data_type=TYPE)

    assert isinstance(host.device.dma_read(IOVA, 5, pasid=5), Fault)


REFUSED = [
    FORGET.replace(GV=1),
    FORGET.replace(func3=IotinvalFunction.GVMA, PSCV=0),
    Iofence(opcode=Opcode.IOFENCE, WSI=1),
    Iodir(opcode=Opcode.IODIR, func3=IodirFunction.INVAL_PDT),
    Iodir(opcode=Opcode.IODIR, PID=1),
    Command(opcode=9),
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda command: repr(command)[:40])
def test_what_hardware_would_refuse_stops_the_batch(host: Host, refused: Command) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    host.device.dma_read(IOVA, 5)
    host.map(root, IOVA, host.page(b"other"))

    with pytest.raises(Invalid) as told:
        viommu.invalidate(requests(FORGET, refused, FORGET), data_type=TYPE)

    assert told.value.done == 1
    assert host.device.dma_read(IOVA, 5) == b"other"


def test_a_guests_fence_stores_in_its_own_memory(host: Host) -> None:
    viommu, _ = host.guest()
    word = host.page()

    viommu.invalidate(requests(Iofence(opcode=Opcode.IOFENCE, AV=1, ADDR=word, DATA=0x1234)), data_type=TYPE)

    assert host.word(word) == 0x1234


def test_a_device_that_does_not_answer_ends_the_batch(host: Host) -> None:
    viommu, root = host.guest()
    host.nest(viommu, root)
    host.machine.device(0x1_0108).answers = False

    with pytest.raises(IoError) as told:
        viommu.invalidate(requests(FORGET, device_tlb(VIRTUAL, None, EVERYTHING), FORGET), data_type=TYPE)

    assert told.value.done == 1


def test_a_guest_is_told_of_its_own_faults_in_its_own_words(host: Host) -> None:
    viommu, root = host.guest()
    events = viommu.veventq_alloc(TYPE)
    host.nest(viommu, root)
    host.map(root, IOVA + 2 * PAGE, 0x7000_0000)
    for page in (1, 2):
        host.device.dma_read(IOVA + page * PAGE, 4)

    records = [FaultRecord.decode(VeventRiscv.decode(event.data).record) for event in events.read()]
    assert [(record.CAUSE, record.DID, record.iotval2) for record in records] == [
        (Cause.READ_PAGE, VIRTUAL, 0),
        (Cause.READ_ACCESS, VIRTUAL, 0),
    ]


def test_a_page_request_goes_to_who_waits_for_it(host: Host) -> None:
    faults = host.iommu.fault_alloc()
    viommu, root = host.guest()
    given = HwptRiscv.of(fsc=9 << 60 | root >> 12)
    host.device.attach(viommu.hwpt_alloc(host.device, given, data_type=TYPE, fault=faults))

    host.device.request_page(IOVA + PAGE, group=4)
    (request,) = faults.read()
    assert (request.addr, request.group) == (IOVA + PAGE, 4)
    faults.respond(request)


@pytest.mark.parametrize("owner", list(VmidOwner))
def test_guests_may_have_tags_of_their_own(owner: VmidOwner) -> None:
    host = Host(Policy(vmid_owner=owner))
    viommu, root = host.guest()
    host.nest(viommu, root)
    assert host.device.dma_read(IOVA, 5) == b"first"

    host.ioas.unmap(BASE, 1 << 20)

    assert isinstance(host.device.dma_read(IOVA, 5), Fault | BusAbort)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (HwptRiscv.of(tc=1 << 4), "tc"),
        (HwptRiscv.of(tc=1 << 9), "tc"),
        (HwptRiscv.of(ta=1), "ta"),
        (HwptRiscv.of(fsc=7 << 60), "fsc"),
        (HwptRiscv.of(fsc=1 << 50), "fsc"),
        (HwptRiscv.of(tc=1 << 5, fsc=9 << 60), "fsc"),
    ],
)
def test_a_context_that_hardware_would_refuse_is_refused(host: Host, given: HwptRiscv, why: str) -> None:
    viommu, _ = host.guest()

    with pytest.raises(Invalid, match=why):
        viommu.hwpt_alloc(host.device, given, data_type=TYPE)


def test_types_are_told_apart(host: Host) -> None:
    parent = host.ioas.hwpt_alloc(host.device, nest_parent=True)

    with pytest.raises(Unsupported):
        parent.viommu_alloc(host.device, TYPE + 1)


def _dirty(hwpt: Hwpt) -> list[int]:
    return [page for page, written in enumerate(hwpt.dirty_bitmap(BASE, 1 << 20)) if written]
