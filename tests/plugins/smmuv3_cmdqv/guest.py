"""A guest in a program's memory: its CDs and stage-1 tables are bytes that it writes, at addresses as it sees them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define, field

from tests.plugins.smmuv3_cmdqv.program import NEST, PAGE, Program
from viommu.iommufd import uapi
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from viommu.layout import Descriptor
    from viommu.objects.device import Device

GUEST_SIZE = 256 * PAGE
BASE = 0x4000_0000
"""Where its memory begins, as it sees it."""
TABLE, LEAF = 0b11, 0b11 | 1 << 10 | 0b01 << 6
"""Of descriptors: a table, and a page with AF that all may read and write."""
NG, READ_ONLY = 1 << 11, 1 << 7
ADDRESS = (1 << 48) - (1 << 12)
VSID = 0xA10


@define(eq=False)
class Guest:
    """Memory from `BASE` on, mapped into an IOAS with a nesting parent on it, and a vIOMMU of some type.

    ``next``: its next free page. ``root``: the stage-1 table of ASID 1, whose CD is ``cd``.
    """

    program: Program
    device: Device
    memory: NDArray[np.uint8]
    ioas: int
    parent: int
    viommu: int
    next: int = BASE
    root: int = field(init=False)
    cd: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cd = self.page()
        self.root = self.page()
        self.put(self.cd, self.descriptor(self.root))

    @classmethod
    def make(cls, program: Program, device: Device, **viommu: int) -> Guest:
        """``viommu``: fields of VIOMMU_ALLOC."""
        ioas, memory = program.ioas(), program.buffer(GUEST_SIZE)
        program.map(ioas, BASE, memory)
        parent = program.hwpt(device, ioas, NEST)
        made = program.must(uapi.ViommuAlloc.of(**{"type": 1, "dev_id": device.id, "hwpt_id": parent, **viommu}))
        return cls(program, device, memory, ioas, parent, made.out_viommu_id)

    # --- memory

    def page(self, count: int = 1) -> int:
        self.next += PAGE * count
        assert self.next <= BASE + GUEST_SIZE
        return self.next - PAGE * count

    def put(self, address: int, data: bytes | Descriptor) -> None:
        raw = data if isinstance(data, bytes) else data.encode()
        self.memory[address - BASE : address - BASE + len(raw)] = list(raw)

    def store(self, address: int, word: int) -> None:
        self.put(address, word.to_bytes(8, "little"))

    def load(self, address: int) -> int:
        return int.from_bytes(self.memory[address - BASE : address - BASE + 8].tobytes(), "little")

    def descriptor(self, root: int, asid: int = 1, **more: int) -> CD:
        """A CD for 48-bit addresses and 4K pages, in the lower half."""
        fields = {"T0SZ": 16, "EPD1": 1, "V": 1, "IPS": 5, "AA64": 1, "R": 1, "A": 1, "ASET": 1, "ASID": asid}
        return CD(**{**fields, "IR0": 1, "OR0": 1, "SH0": 3, "TTB0": root, "MAIR": 0xFF, **more})

    def leaf(self, iova: int, root: int | None = None) -> int:
        """The address of the entry of a 4 KiB page, with tables on the way."""
        table = self.root if root is None else root
        for level in (3, 2, 1):
            at = table + (iova >> 12 + 9 * level & 0x1FF) * 8
            if not self.load(at):
                self.store(at, self.page() | TABLE)
            table = self.load(at) & ADDRESS
        return table + (iova >> 12 & 0x1FF) * 8

    def map(self, iova: int, text: bytes = b"", root: int | None = None, extra: int = NG) -> int:
        """Map a new page that begins with a text; gives the page."""
        page = self.page()
        self.put(page, text)
        self.store(self.leaf(iova, root), page | LEAF | extra)
        return page

    # --- objects

    def ste(self, **more: int) -> STE:
        """What the guest's stream table says of its device: stage 1, by the one CD."""
        return STE(**{"V": 1, "Config": 5, "S1ContextPtr": self.cd, "S1CIR": 1, "S1COR": 1, "S1CSH": 3, **more})

    def nested_command(self, ste: STE, **more: int) -> uapi.HwptAlloc:
        fields = {"dev_id": self.device.id, "pt_id": self.viommu, "data_type": 2, "data_len": 16}
        return uapi.HwptAlloc.of(**{**fields, "data_uptr": self.program.data(ste.encode()[:16]), **more})

    def nested(self, ste: STE, **more: int) -> int:
        return self.program.must(self.nested_command(ste, **more)).out_hwpt_id

    def vdevice_command(self, device: Device, sid: int = VSID) -> uapi.VdeviceAlloc:
        return uapi.VdeviceAlloc.of(viommu_id=self.viommu, dev_id=device.id, virt_id=sid)

    def vdevice(self, device: Device, sid: int = VSID) -> int:
        return self.program.must(self.vdevice_command(device, sid)).out_vdevice_id

    def attach(self, ste: STE | None = None, **more: int) -> int:
        """Let the device be known, and attach what its STE says."""
        self.vdevice(self.device)
        hwpt = self.nested(ste or self.ste(), **more)
        self.device.attach(hwpt)
        return hwpt

    def invalidate_command(self, *commands: Descriptor | bytes, **more: int) -> uapi.HwptInvalidate:
        raw = b"".join(one if isinstance(one, bytes) else one.encode() for one in commands)
        fields = {"hwpt_id": self.viommu, "data_type": 1, "entry_len": 16, "entry_num": len(commands)}
        return uapi.HwptInvalidate.of(**{**fields, "data_uptr": self.program.data(raw), **more})

    def invalidate(self, *commands: Descriptor | bytes) -> None:
        assert self.program.must(self.invalidate_command(*commands)).entry_num == len(commands)

    def events(self, kind: int = 1, depth: int = 16) -> Events:
        """A vEVENTQ."""
        cmd = uapi.VeventqAlloc.of(viommu_id=self.viommu, type=kind, veventq_depth=depth)
        made = self.program.must(cmd)
        return Events(self.program, made.out_veventq_fd, made.out_veventq_id)


@define(eq=False)
class Events:
    """The guest's end of a vEVENTQ."""

    program: Program
    fd: int
    number: int
    inbox: NDArray[np.uint8] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inbox = self.program.buffer()

    def read(self, size: int = 32) -> list[tuple[int, int, bytes]]:
        """Flags, sequence number and bytes of each event that waits."""
        process = self.program.machine.process
        count = process.files[self.fd].read(process, self.inbox.ctypes.data, len(self.inbox))
        raw, found = self.inbox[:count].tobytes(), []
        while raw:
            flags, sequence = struct.unpack_from("<II", raw)
            length = 0 if flags & 1 else size
            found.append((flags, sequence, raw[8 : 8 + length]))
            raw = raw[8 + length :]
        return found
