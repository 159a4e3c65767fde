"""Random programs, and the laws that every one of them keeps."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.iommufd.client import APERTURE, BUFFER, PAGE, SELFTEST_EVENTS, SELFTEST_VIOMMU, Client
from tests.iommufd.state import differences, pins_of, state_of

from viommu.iommufd import uapi

if TYPE_CHECKING:
    from viommu.iommufd.uapi_struct import UapiStruct

IDS = st.integers(0, 14)
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

    def call(self, cmd: UapiStruct) -> Any:
        self.before = state_of(self.client)
        after = self.client.call(cmd)
        if self.client.result < 0 and not isinstance(cmd, NOT_ATOMIC):
            assert not differences(self.before, state_of(self.client)), (cmd, self.client.result)
        return after

    def test(self, op: int, number: int, *words: tuple[str, int]) -> bytes:
        body = struct.pack("<" + "".join(code for code, _ in words), *(value for _, value in words))
        cmd = uapi.TestCmd.of(op=op, id=number, body=body.ljust(48, b"\0"))
        return bytes(self.call(cmd).body)

    @rule()
    def ioas_alloc(self) -> None:
        free = next(n for n in range(1, 1 << 20) if n not in self.before["objects"] and n not in self.tombstones)
        del free
        self.call(uapi.IoasAlloc.of())

    @rule(ioas=IDS, iova=PLACES, length=LENGTHS, va=ADDRESSES, flags=MAP_FLAGS)
    def map(self, ioas: int, iova: int, length: int, va: int, flags: int) -> None:
        self.call(uapi.IoasMap.of(flags=flags, ioas_id=ioas, user_va=va, length=length, iova=iova))

    @rule(ioas=IDS, iova=PLACES, length=LENGTHS)
    def unmap(self, ioas: int, iova: int, length: int) -> None:
        self.call(uapi.IoasUnmap.of(ioas_id=ioas, iova=iova, length=length))

    @rule(ioas=IDS)
    def unmap_all(self, ioas: int) -> None:
        self.call(uapi.IoasUnmap.of(ioas_id=ioas, iova=0, length=(1 << 64) - 1))

    @rule(to=IDS, source=IDS, length=LENGTHS, iova=PLACES, at=PLACES, flags=MAP_FLAGS)
    def copy(self, to: int, source: int, length: int, iova: int, at: int, flags: int) -> None:
        cmd = uapi.IoasCopy.of(
            flags=flags, dst_ioas_id=to, src_ioas_id=source, length=length, dst_iova=at, src_iova=iova
        )
        self.call(cmd)

    @rule(pt=IDS, flags=st.sampled_from([0, 0, 1, 4]))
    def device(self, pt: int, flags: int) -> None:
        self.test(12, pt, ("I", 0), ("I", 0), ("I", 0), ("I", flags))

    @rule(stdev=IDS, pt=IDS)
    def replace(self, stdev: int, pt: int) -> None:
        self.test(10, stdev, ("I", pt))

    @rule(stdev=IDS, pasid=st.integers(0, 2), pt=IDS, op=st.sampled_from([18, 19, 20]))
    def pasid(self, stdev: int, pasid: int, pt: int, op: int) -> None:
        self.test(op, stdev, ("I", pasid), ("I", pt))

    @rule(device=IDS, pt=IDS, flags=st.sampled_from([0, 1, 2, 4, 8, 10]), fault=IDS, nested=st.booleans())
    def hwpt(self, device: int, pt: int, flags: int, fault: int, nested: bool) -> None:
        self.before = state_of(self.client)
        self.client.hwpt(device, pt, flags, NESTED if nested else b"", fault)
        if self.client.result < 0:
            assert not differences(self.before, state_of(self.client))

    @rule(device=IDS, parent=IDS)
    def viommu(self, device: int, parent: int) -> None:
        self.call(uapi.ViommuAlloc.of(type=SELFTEST_VIOMMU, dev_id=device, hwpt_id=parent))

    @rule(viommu=IDS, device=IDS, virt_id=st.integers(0, 2))
    def vdevice(self, viommu: int, device: int, virt_id: int) -> None:
        self.call(uapi.VdeviceAlloc.of(viommu_id=viommu, dev_id=device, virt_id=virt_id))

    @rule(viommu=IDS, index=st.integers(0, 2), iova=PLACES, length=LENGTHS)
    def hw_queue(self, viommu: int, index: int, iova: int, length: int) -> None:
        cmd = uapi.HwQueueAlloc.of(
            viommu_id=viommu, type=SELFTEST_VIOMMU, index=index, nesting_parent_iova=iova, length=length
        )
        self.call(cmd)

    @rule()
    def fault_queue(self) -> None:
        self.call(uapi.FaultAlloc.of())

    @rule(viommu=IDS)
    def veventq(self, viommu: int) -> None:
        self.call(uapi.VeventqAlloc.of(viommu_id=viommu, type=SELFTEST_EVENTS, veventq_depth=2))

    @rule(ioas=IDS, flags=st.sampled_from([0, 1, 2]))
    def access(self, ioas: int, flags: int) -> None:
        self.test(5, ioas, ("I", 0), ("I", flags))

    @rule(choice=st.integers(0, 5), iova=PLACES, length=LENGTHS)
    def access_pages(self, choice: int, iova: int, length: int) -> None:
        fd = self.some_fd(choice)
        self.test(7, fd, ("I", 0), ("I", 0), ("Q", iova), ("Q", length), ("Q", 0))

    @rule(choice=st.integers(0, 5), item=st.integers(0, 3))
    def access_release(self, choice: int, item: int) -> None:
        self.test(6, self.some_fd(choice), ("I", item))

    @rule(device=IDS, pasid=st.integers(0, 1))
    def page_fault(self, device: int, pasid: int) -> None:
        self.test(15, 0, ("I", device), ("I", pasid), ("I", 1), ("I", 1), ("Q", PAGE))

    @rule(device=IDS)
    def event(self, device: int) -> None:
        self.test(17, 0, ("I", device))

    @rule(ioas=IDS, value=st.integers(0, 2))
    def huge_pages(self, ioas: int, value: int) -> None:
        self.call(uapi.Option.of(option_id=1, op=0, object_id=ioas, val64=value))

    @rule(number=IDS)
    def destroy(self, number: int) -> None:
        self.call(uapi.Destroy.of(id=number))
        if self.client.result == 0:
            assert number not in state_of(self.client)["objects"]
            assert self.client.destroy(number) < 0

    @precondition(lambda self: self.client.process.files)
    @rule(choice=st.integers(0, 5))
    def close_fd(self, choice: int) -> None:
        self.client.process.close(self.some_fd(choice))

    def some_fd(self, choice: int) -> int:
        fds = sorted(self.client.process.files)
        return fds[choice % len(fds)] if fds else -1 & 0xFFFFFFFF

    @invariant()
    def nobody_is_held_less_than_once(self) -> None:
        assert all(users >= 1 for _, users in state_of(self.client)["objects"].values())

    @invariant()
    def what_is_pinned_is_charged_and_the_other_way_round(self) -> None:
        assert bool(pins_of(self.client)) == bool(self.client.process.account.pinned)

    def teardown(self) -> None:
        self.client.close()
        assert not pins_of(self.client)
        assert not self.client.process.account.pinned
        assert len(self.client.file.context.table) == 0
        assert self.client.file.context.references == 0


Programs.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPrograms = Programs.TestCase
