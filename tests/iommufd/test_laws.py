"""Random programs, and the laws that every one of them keeps."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.iommufd.client import APERTURE, BUFFER, DATA, PAGE, SELFTEST_EVENTS, SELFTEST_VIOMMU, Client
from tests.iommufd.state import differences, pins_of, state_of
from viommu.iommufd import uapi
from viommu.objects.device import Device
from viommu.objects.hw_queue import HwQueue
from viommu.objects.hwpt import Hwpt
from viommu.objects.ioas import Ioas
from viommu.objects.table import Object
from viommu.objects.viommu import Viommu

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct

S = TypeVar("S", bound="UapiStruct")
Living = TypeVar("Living", bound=Object)

IDS = st.integers(0, 15)
"""Mostly the n-th living object of the type that belongs there; from `WILD` on, the number itself."""
WILD = 13
IOAS, HWPTS, NESTED_HWPT = ("Ioas",), ("PagingHwpt", "NestedHwpt"), ("NestedHwpt",)
PAGING, DEVICE, HANDLE, VIOMMU, FAULT = ("PagingHwpt",), ("Device",), ("Selftest",), ("Viommu",), ("FaultQueue",)
PLACES = st.sampled_from([0, PAGE, APERTURE, APERTURE + PAGE, APERTURE + 2 * PAGE, APERTURE + 2048, (1 << 31) - PAGE])
LENGTHS = st.sampled_from([0, 2048, PAGE, 2 * PAGE, 3 * PAGE])
ADDRESSES = st.sampled_from([BUFFER, BUFFER + PAGE, BUFFER + 2048, 0x1000])
MAP_FLAGS = st.sampled_from([7, 7, 7, 6, 5, 3, 0])
NESTED = struct.pack("<II", 0xBADBEEF, 0)

NOT_ATOMIC = (uapi.IoasUnmap,)
"""What the kernel leaves half done when it fails."""


class Programs(RuleBasedStateMachine):
    """One process, one /dev/iommu, any calls in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.before = state_of(self.client)
        self.tombstones: set[int] = set()

    def call(self, cmd: S) -> S:
        self.before = state_of(self.client)
        after = self.client.call(cmd)
        if self.client.result < 0 and not isinstance(cmd, NOT_ATOMIC):
            assert not differences(self.before, state_of(self.client)), (cmd, self.client.result)
        return after

    def of(self, choice: int, *kinds: str) -> int:
        """Choose an object of these types, if there is one; or any number."""
        objects = self.client.file.context.table
        living = [found.id for found in objects if type(found).__name__ in kinds]
        return living[choice % len(living)] if living and choice < WILD else choice

    def test(self, op: int, number: int, *words: tuple[str, int]) -> bytes:
        body = struct.pack("<" + "".join(code for code, _ in words), *(value for _, value in words))
        cmd = uapi.TestCmd.of(op=op, id=number, body=body.ljust(48, b"\0"))
        return bytes(self.call(cmd).body)

    @initialize(much=st.integers(0, 3))
    def begin(self, much: int) -> None:
        """Begin with something, or nearly every call is refused for want of an object."""
        ioas = self.client.ioas()
        if much:
            self.client.map(ioas, APERTURE, 2 * PAGE)
            _, _, device = self.client.device(ioas, flags=4)
        if much > 1:
            parent = self.client.hwpt(device, ioas, uapi.HwptFlags.NEST_PARENT)
            viommu = self.client.viommu(device, parent)
        if much > 2:
            self.call(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device, virt_id=1))
            self.client.hwpt(device, viommu, 0, NESTED)
            self.call(uapi.VeventqAlloc.of(viommu_id=viommu, type=SELFTEST_EVENTS, veventq_depth=2))

    @rule()
    def ioas_alloc(self) -> None:
        taken = self.taken()
        new = self.call(uapi.IoasAlloc.of()).out_ioas_id
        assert new == next(number for number in range(1, 1 << 20) if number not in taken)

    def taken(self) -> set[int]:
        """Every id that must not be given: those of objects, and of the vDEVICEs that outlived their device."""
        return set(state_of(self.client)["objects"]) | self.tombstones

    @rule(ioas=IDS, iova=PLACES, length=LENGTHS, va=ADDRESSES, flags=MAP_FLAGS)
    def map(self, ioas: int, iova: int, length: int, va: int, flags: int) -> None:
        self.call(uapi.IoasMap.of(flags=flags, ioas_id=self.of(ioas, *IOAS), user_va=va, length=length, iova=iova))

    @rule(ioas=IDS, iova=PLACES, length=LENGTHS)
    def unmap(self, ioas: int, iova: int, length: int) -> None:
        self.call(uapi.IoasUnmap.of(ioas_id=self.of(ioas, *IOAS), iova=iova, length=length))

    @rule(ioas=IDS)
    def unmap_all(self, ioas: int) -> None:
        self.call(uapi.IoasUnmap.of(ioas_id=self.of(ioas, *IOAS), iova=0, length=(1 << 64) - 1))

    @rule(to=IDS, source=IDS, length=LENGTHS, iova=PLACES, at=PLACES, flags=MAP_FLAGS)
    def copy(self, to: int, source: int, length: int, iova: int, at: int, flags: int) -> None:
        cmd = uapi.IoasCopy.of(
            flags=flags,
            dst_ioas_id=self.of(to, *IOAS),
            src_ioas_id=self.of(source, *IOAS),
            length=length,
            dst_iova=at,
            src_iova=iova,
        )
        self.call(cmd)

    @rule(pt=IDS, flags=st.sampled_from([0, 0, 1, 4]))
    def device(self, pt: int, flags: int) -> None:
        self.test(12, self.of(pt, *IOAS, *HWPTS), ("I", 0), ("I", 0), ("I", 0), ("I", flags))

    @rule(stdev=IDS, pt=IDS)
    def replace(self, stdev: int, pt: int) -> None:
        self.test(10, self.of(stdev, *HANDLE), ("I", self.of(pt, *IOAS, *HWPTS)))

    @rule(stdev=IDS, pasid=st.integers(0, 2), pt=IDS, op=st.sampled_from([18, 19, 20]))
    def pasid(self, stdev: int, pasid: int, pt: int, op: int) -> None:
        self.test(op, self.of(stdev, *HANDLE), ("I", pasid), ("I", self.of(pt, *HWPTS)))

    @rule(device=IDS, pt=IDS, flags=st.sampled_from([0, 1, 2, 4, 8, 10]), fault=IDS, nested=st.booleans())
    def hwpt(self, device: int, pt: int, flags: int, fault: int, nested: bool) -> None:
        self.before = state_of(self.client)
        below = self.of(pt, *PAGING, *VIOMMU) if nested else self.of(pt, *IOAS)
        queue = self.of(fault, *FAULT)
        self.client.hwpt(self.of(device, *DEVICE), below, flags, NESTED if nested else b"", queue)
        if self.client.result < 0:
            assert not differences(self.before, state_of(self.client))

    @rule(device=IDS, parent=IDS)
    def viommu(self, device: int, parent: int) -> None:
        self.call(
            uapi.ViommuAlloc.of(type=SELFTEST_VIOMMU, dev_id=self.of(device, *DEVICE), hwpt_id=self.of(parent, *PAGING))
        )

    @rule(viommu=IDS, device=IDS, virt_id=st.integers(0, 2))
    def vdevice(self, viommu: int, device: int, virt_id: int) -> None:
        self.call(
            uapi.VdeviceAlloc.of(viommu_id=self.of(viommu, *VIOMMU), dev_id=self.of(device, *DEVICE), virt_id=virt_id)
        )

    @rule(viommu=IDS, index=st.integers(0, 2), iova=PLACES, length=LENGTHS)
    def hw_queue(self, viommu: int, index: int, iova: int, length: int) -> None:
        cmd = uapi.HwQueueAlloc.of(
            viommu_id=self.of(viommu, *VIOMMU),
            type=SELFTEST_VIOMMU,
            index=index,
            nesting_parent_iova=self.mapped(viommu, iova),
            length=length,
        )
        self.call(cmd)

    @rule()
    def fault_queue(self) -> None:
        self.call(uapi.FaultAlloc.of())

    @rule(viommu=IDS)
    def veventq(self, viommu: int) -> None:
        self.call(uapi.VeventqAlloc.of(viommu_id=self.of(viommu, *VIOMMU), type=SELFTEST_EVENTS, veventq_depth=2))

    @rule(ioas=IDS, flags=st.sampled_from([0, 1, 2]))
    def access(self, ioas: int, flags: int) -> None:
        self.test(5, self.of(ioas, *IOAS), ("I", 0), ("I", flags))

    @rule(choice=st.integers(0, 5), iova=PLACES, length=LENGTHS)
    def access_pages(self, choice: int, iova: int, length: int) -> None:
        fd, iova = self.access_fd(choice), self.mapped(choice, iova)
        self.test(7, fd, ("I", 0), ("I", 0), ("Q", iova), ("Q", length), ("Q", 0))

    @rule(choice=st.integers(0, 5), item=st.integers(0, 3))
    def access_release(self, choice: int, item: int) -> None:
        self.test(6, self.access_fd(choice), ("I", item))

    @rule(choice=st.integers(0, 5), ioas=IDS)
    def access_replace(self, choice: int, ioas: int) -> None:
        self.test(11, self.access_fd(choice), ("I", self.of(ioas, *IOAS)))

    @rule(choice=st.integers(0, 5), iova=PLACES, length=LENGTHS, flags=st.sampled_from([0, 1, 4, 5]))
    def access_rw(self, choice: int, iova: int, length: int, flags: int) -> None:
        fd, iova = self.access_fd(choice), self.mapped(choice, iova)
        self.test(8, fd, ("Q", iova), ("Q", length), ("Q", BUFFER), ("I", flags))

    @rule(hwpt=IDS, enable=st.integers(0, 1))
    def dirty_tracking(self, hwpt: int, enable: int) -> None:
        self.call(uapi.HwptSetDirtyTracking.of(hwpt_id=self.of(hwpt, *PAGING), flags=enable))

    @rule(hwpt=IDS, iova=PLACES, length=LENGTHS, size=st.sampled_from([2048, PAGE]), keep=st.integers(0, 1))
    def dirty_bitmap(self, hwpt: int, iova: int, length: int, size: int, keep: int) -> None:
        """What is written is told once, or again and again where it is kept."""
        number = self.of(hwpt, *PAGING)
        iova = self.mapped(hwpt, iova)
        self.client.process.write(DATA, b"\xff")
        self.test(13, number, ("I", 0), ("I", 0), ("Q", iova), ("Q", length), ("Q", size), ("Q", DATA))
        if self.client.result < 0:
            return
        cmd = uapi.HwptGetDirtyBitmap.of(
            hwpt_id=number, flags=keep, iova=iova, length=length, page_size=size, data=DATA + PAGE
        )
        told = [self.marks(cmd) for _ in range(3)]
        assert told[1] == (told[0] if keep else b"\0") == told[2] or self.client.result < 0

    def marks(self, cmd: uapi.HwptGetDirtyBitmap) -> bytes:
        self.client.process.write(DATA + PAGE, bytes(8))
        self.call(cmd)
        return self.client.process.read(DATA + PAGE, 1) or b""

    @rule(of=IDS, entries=st.integers(0, 2), length=st.sampled_from([4, 8, 12]))
    def invalidate(self, of: int, entries: int, length: int) -> None:
        self.client.process.write(DATA, struct.pack("<6I", 0, 1, 0, 0, 1, 0))
        cmd = uapi.HwptInvalidate.of(
            hwpt_id=self.of(of, *VIOMMU, *NESTED_HWPT),
            data_type=SELFTEST_VIOMMU,
            entry_len=length,
            entry_num=entries,
            data_uptr=DATA,
        )
        after = self.call(cmd)
        assert after.entry_num <= entries

    @rule(ioas=IDS, start=PLACES, length=LENGTHS)
    def allow(self, ioas: int, start: int, length: int) -> None:
        self.client.process.write(DATA, struct.pack("<QQ", start, start + length))
        self.call(uapi.IoasAllowIovas.of(ioas_id=self.of(ioas, *IOAS), num_iovas=1, allowed_iovas=DATA))

    @rule(choice=st.integers(0, 5), success=st.integers(0, 1), cookie=st.integers(0, 2))
    def events(self, choice: int, success: int, cookie: int) -> None:
        """Read what waits, and answer page requests."""
        client = self.client
        entry = client.process.files.get(self.some_fd(choice))
        if entry is None:
            return
        client.subject.read(client.process, entry.file, DATA, 2 * uapi.HwptPgfault.total)
        client.process.write(DATA, uapi.HwptPageResponse.of(cookie=cookie, code=success).encode())
        client.subject.write(client.process, entry.file, DATA, uapi.HwptPageResponse.total)

    @rule(device=IDS, pasid=st.integers(0, 1))
    def page_fault(self, device: int, pasid: int) -> None:
        self.test(15, 0, ("I", self.of(device, *DEVICE)), ("I", pasid), ("I", 1), ("I", 1), ("Q", PAGE))

    @rule(device=IDS)
    def event(self, device: int) -> None:
        self.test(17, 0, ("I", self.of(device, *DEVICE)))

    @rule(ioas=IDS, value=st.integers(0, 2))
    def huge_pages(self, ioas: int, value: int) -> None:
        self.call(uapi.Option.of(option_id=1, op=0, object_id=self.of(ioas, *IOAS), val64=value))

    @rule(number=IDS)
    def destroy(self, number: int) -> None:
        self.call(uapi.Destroy.of(id=number))
        if self.client.result == 0:
            after = state_of(self.client)["objects"]
            gone = {other: kind for other, (kind, _) in self.before["objects"].items() if other not in after}
            self.tombstones |= {other for other, kind in gone.items() if kind == "Vdevice" and other != number}
            assert number in gone
            assert self.client.destroy(number) < 0

    @precondition(lambda self: self.client.process.files)
    @rule(choice=st.integers(0, 5))
    def close_fd(self, choice: int) -> None:
        self.client.process.close(self.some_fd(choice))

    def access_fd(self, choice: int) -> int:
        files = self.client.process.files
        fds = [fd for fd, entry in files.items() if getattr(entry.file, "kind", "") == "access"]
        return fds[choice % len(fds)] if fds else self.some_fd(choice)

    def mapped(self, choice: int, otherwise: int) -> int:
        """Choose an IOVA where something is mapped."""
        spaces = [found.space for found in self.client.file.context.table if isinstance(found, Ioas)]
        starts = [area.start for space in spaces for area in space.areas]
        return starts[choice % len(starts)] if starts and choice < WILD else otherwise

    def some_fd(self, choice: int) -> int:
        fds = sorted(self.client.process.files, reverse=True)
        return fds[choice % len(fds)] if fds else -1 & 0xFFFFFFFF

    @invariant()
    def nobody_is_held_less_than_once(self) -> None:
        assert all(users >= 1 for _, users in state_of(self.client)["objects"].values())

    @invariant()
    def what_is_pinned_is_charged_and_the_other_way_round(self) -> None:
        assert bool(pins_of(self.client)) == bool(self.client.process.account.pinned)

    @invariant()
    def every_domain_of_an_ioas_has_every_mapping(self) -> None:
        for ioas in self.living(Ioas):
            for area in ioas.space.areas:
                assert area.filled == ioas.domains
                for domain in ioas.domains:
                    assert domain.physical(area.start) is not None
                    assert domain.physical(area.last) is not None

    @invariant()
    def who_is_attached_is_attached_to_what_is_there(self) -> None:
        hwpts = {hwpt.id: hwpt for hwpt in self.living(Hwpt)}
        for device in self.living(Device):
            for attachment in device.group.attachments.values():
                assert hwpts[attachment.hwpt.id] is attachment.hwpt
                assert device in attachment.devices

    @invariant()
    def a_vdevice_and_its_device_know_each_other(self) -> None:
        for viommu in self.living(Viommu):
            for virt_id, vdevice in viommu.vdevices.items():
                assert vdevice is not None
                assert (vdevice.virt_id, vdevice.device.vdevice) == (virt_id, vdevice)

    @invariant()
    def what_queues_lie_in_stays_mapped(self) -> None:
        for queue in self.living(HwQueue):
            area = queue.viommu.parent.ioas.space.areas.first(queue.iova, queue.iova)
            assert area is not None
            assert area.locks

    def living(self, kind: type[Living]) -> list[Living]:
        return [found for found in self.client.file.context.table if isinstance(found, kind)]

    def teardown(self) -> None:
        self.client.close()
        assert not pins_of(self.client)
        assert not self.client.process.account.pinned
        assert len(self.client.file.context.table) == 0
        assert self.client.file.context.references == 0


FEW = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


class TestPrograms(Programs.TestCase):  # type: ignore[misc, valid-type]  # made by Hypothesis
    settings = FEW


@pytest.mark.long
class TestManyPrograms(Programs.TestCase):  # type: ignore[misc, valid-type]  # made by Hypothesis
    settings = settings(FEW, max_examples=5000)
