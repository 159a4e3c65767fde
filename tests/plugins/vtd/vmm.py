"""A VMM that gives its guest a vIOMMU, which mainline's driver for VT-d does not have."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import define

from tests.plugins.vtd.guest import Guest
from tests.plugins.vtd.host import Host
from tests.plugins.vtd.program import PAGE, RID, Program
from viommu.iommufd import uapi
from viommu.policies import Policy
from viommu_vtd.host.extensions import TYPE, HwptVtdGuest, VeventVtd, ViommuVtd

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserFile
    from viommu.layout import Descriptor
    from viommu.objects.device import Device
    from viommu.objects.mmap import RegisterMapping

IOVA = 0x40_0000
VIRTUAL = 0x0010
DID = 9
ALL = Policy(invalidate_by_viommu=True, software_queues=True)


@define(eq=False)
class Vmm:
    """A VMM with one vIOMMU, one device known as `VIRTUAL`, and the guest's table attached to it."""

    program: Program
    device: Device
    guest: Guest
    viommu: int
    hwpt: int
    registers: ViommuVtd

    @classmethod
    def make(cls, policy: Policy = ALL, *, ats: bool = False, iotlb: bool = True, sanitize: bool = True) -> Vmm:
        program = Program.on(Host.make(iotlb=iotlb, policy=policy, sanitize=sanitize))
        device = program.bind(program.host.device(RID, ats=ats, pasids=1 << 20))
        guest = Guest.make(program, device, uapi.HwptFlags.PASID)
        out = program.buffer()
        cmd = uapi.ViommuAlloc.of(
            type=TYPE, dev_id=device.id, hwpt_id=guest.parent, data_len=ViommuVtd.total, data_uptr=out.address
        )
        viommu = program.must(cmd).out_viommu_id
        program.must(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device.id, virt_id=VIRTUAL))
        hwpt = cls.nested(program, device, viommu, guest.root)
        device.attach(hwpt)
        return cls(program, device, guest, viommu, hwpt, ViommuVtd.decode(out.pages[: ViommuVtd.total]))

    @staticmethod
    def nested(program: Program, device: Device, viommu: int, table: int, domain: int = DID) -> int:
        """A HWPT for a guest's table that the guest knows by a DID."""
        data = program.buffer()
        data.pages[: HwptVtdGuest.total] = HwptVtdGuest.of(pgtbl_addr=table, addr_width=48, domain_id=domain).encode()
        cmd = uapi.HwptAlloc.of(
            flags=uapi.HwptFlags.PASID,
            dev_id=device.id,
            pt_id=viommu,
            data_type=TYPE,
            data_len=HwptVtdGuest.total,
            data_uptr=data.address,
        )
        return program.must(cmd).out_hwpt_id

    @property
    def reached(self) -> bytes | None:
        found = self.program.host.machine.dma_read(RID, IOVA, 3)
        return found if isinstance(found, bytes) else None

    def batch(self, *commands: Descriptor | bytes, length: int = 40) -> uapi.HwptInvalidate:
        raw = [one if isinstance(one, bytes) else one.encode() for one in commands]
        return self.program.invalidate_command(self.viommu, *raw, data_type=TYPE, length=length)

    def results(self, count: int) -> list[tuple[int, int]]:
        """What stands behind the descriptors of the last batch: (error, info)."""
        pages = self.program.scratch.pages
        return [struct.unpack_from("<II", pages, index * 40 + 32) for index in range(count)]

    def events(self, depth: int = 64) -> tuple[UserFile, int]:
        made = self.program.must(uapi.VeventqAlloc.of(viommu_id=self.viommu, type=TYPE, veventq_depth=depth))
        return self.program.process.files[made.out_veventq_fd], made.out_veventq_id

    def read(self, file: UserFile) -> list[VeventVtd]:
        out = self.program.buffer()
        got = file.read(self.program.process, out.address, PAGE)
        size = 8 + VeventVtd.total
        return [VeventVtd.decode(out.pages[at + 8 : at + size]) for at in range(0, max(got, 0), size)]

    def map_registers(self) -> RegisterMapping:
        mapping = self.program.file.mmap(PAGE, 3, 1, self.registers.out_queue_mmap_offset)
        assert not isinstance(mapping, int), mapping
        return mapping

    def queue(self, base: int, length: int = PAGE, index: int = 0, kind: int = TYPE) -> uapi.HwQueueAlloc:
        return uapi.HwQueueAlloc.of(
            viommu_id=self.viommu, type=kind, index=index, nesting_parent_iova=base, length=length
        )
