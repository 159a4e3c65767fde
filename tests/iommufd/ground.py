"""A program with one object of each kind, for tests that need all of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.iommufd.client import APERTURE, DATA, PAGE, SELFTEST_VIOMMU, Client
from viommu.iommufd import uapi
from viommu.iommufd.fd import IommuFd
from viommu.oracle import memory_records
from viommu.oracle.recording import Record
from viommu.oracle.subject import Subject
from viommu.policies import Policy
from viommu.selftest.test_cmd import ROW

if TYPE_CHECKING:
    from viommu.oracle.processes import Process

NESTED = struct.pack("<II", 0xBADBEEF, 0)
EVERYTHING = Policy(late_stage2=True, viommu_page_requests=True, device_tlb_invalidation=True)
MEMFD, MEMFD_NAME = 3, "00:01:9"


class AheadSubject(Subject):
    """Has the experimental calls too."""

    def open(self, path: str, flags: int, process: Process) -> IommuFd:  # noqa: ARG002
        return IommuFd(ioctls=[ROW], policy=EVERYTHING)


class Ground:
    """A client with one object of each kind that ioctls stand on."""

    def __init__(self) -> None:
        self.client = client = Client(AheadSubject())
        self.ioas = client.ioas()
        client.map(self.ioas, APERTURE, 2 * PAGE)
        assert client.result == 0
        self.stdev, self.auto, self.device = client.device(self.ioas, flags=4)
        self.parent = client.hwpt(self.device, self.ioas, uapi.HwptFlags.NEST_PARENT)
        self.dirty = client.hwpt(self.device, self.ioas, uapi.HwptFlags.DIRTY_TRACKING)
        self.pasid = client.hwpt(self.device, self.ioas, uapi.HwptFlags.PASID)
        self.other_pasid = client.hwpt(self.device, self.ioas, uapi.HwptFlags.PASID)
        self.viommu = client.viommu(self.device, self.parent)
        self.vdevice = client.must(uapi.VdeviceAlloc.of(viommu_id=self.viommu, dev_id=self.device, virt_id=9))
        self.nested = client.hwpt(self.device, self.viommu, 0, NESTED)
        self.other = client.ioas()
        fault = client.must(uapi.FaultAlloc.of())
        self.fault, self.fault_fd = fault.out_fault_id, fault.out_fault_fd

    def tell(self, call: str, **fields: object) -> None:
        """Let the process do something that is no ioctl of ours, as recordings tell it."""
        fields = {"ret": 0, "errno": "0"} | fields
        memory_records.apply(
            self.client.process.world, Record("f", 1, fields, "t", "", self.client.process.number, call, "memory", 0)
        )

    def memfd(self, pages: int) -> int:
        self.tell("memfd_create", flags=0, obj=MEMFD_NAME, ret=MEMFD)
        self.tell("ftruncate", obj=MEMFD_NAME, length=pages * PAGE)
        return MEMFD

    def second_device(self) -> int:
        _, _, device = self.client.device(self.ioas)
        return device

    def test(self, op: int, number: int = 0, *words: tuple[str, int]) -> object:
        return self.client.test(op, number, *words)

    def queue(self, index: int) -> uapi.HwQueueAlloc:
        return uapi.HwQueueAlloc.of(
            viommu_id=self.viommu, type=SELFTEST_VIOMMU, index=index, nesting_parent_iova=APERTURE, length=PAGE
        )

    def after_a_queue(self) -> uapi.HwQueueAlloc:
        self.client.must(self.queue(0))
        return self.queue(1)

    def tracked(self) -> int:
        self.client.must(uapi.HwptSetDirtyTracking.of(hwpt_id=self.dirty, flags=1))
        return self.dirty

    def written(self) -> int:
        """Let a device write to the first page of a domain that is tracked."""
        self.client.process.write(DATA, b"\1")
        self.test(13, self.tracked(), ("I", 0), ("I", 0), ("Q", APERTURE), ("Q", PAGE), ("Q", PAGE), ("Q", DATA))
        assert self.client.result == 0
        return self.dirty

    def guest_request(self) -> int:
        self.client.process.write(DATA + PAGE, struct.pack("<III", 0, 9, 0))
        return DATA + PAGE

    def closed_fault(self) -> int:
        assert self.client.process.close(self.fault_fd) == 0
        return self.fault

    def faulting(self) -> int:
        return self.client.hwpt(self.device, self.parent, 4, NESTED, self.fault)

    def access(self, flags: int = 1) -> int:
        (fd,) = struct.unpack_from("<I", self.client.test(5, self.ioas, ("I", 0), ("I", flags)))
        assert self.client.result == 0
        return int(fd)
