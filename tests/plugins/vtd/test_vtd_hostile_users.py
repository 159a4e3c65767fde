"""Whatever user space and its guest write: an errno or a fault, never more, and the host works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.vtd.guest import BASE, GUEST_SIZE
from tests.plugins.vtd.program import PAGE, RID
from tests.plugins.vtd.vmm import IOVA, Vmm
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu.kernel_errors import KernelError
from viommu_vtd.host.extensions import TYPE
from viommu_vtd.spec.offsets import OFFSETS

if TYPE_CHECKING:
    from tests.plugins.vtd.program import Program

words = st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda bit: 1 << bit) | st.integers(0, 0x1FF)
descriptors = st.tuples(st.integers(0, 15), words, words, st.sampled_from([0, 0, 0, 1])).map(
    lambda parts: (parts[1] & ~0xF | parts[0] | parts[2] << 64 | parts[3] << 128).to_bytes(32, "little")
)
EXAMPLES = settings(max_examples=60)


def works_on(vmm: Vmm) -> None:
    """The host's own domain still governs another device, and no translation is stale."""
    program = vmm.program
    ioas, buffer = program.ioas(), program.buffer()
    buffer.pages[:4] = b"fine"
    program.map(ioas, IOVA, buffer)
    program.bind(program.host.device(RID + 8, ats=True)).attach(ioas)
    assert program.host.machine.dma_read(RID + 8, IOVA, 4) == b"fine"
    program.clean()


def answered(program: Program) -> None:
    assert program.result <= 0


@EXAMPLES
@given(st.lists(descriptors, max_size=20), st.sampled_from([16, 32, 40, 48]))
def test_batches_of_any_descriptors_are_answered(batch: list[bytes], length: int) -> None:
    vmm = Vmm.make(ats=True)
    vmm.program.host.machine.device(RID).answers = bool(len(batch) % 3)
    vmm.program.call(vmm.batch(*[raw[:length] for raw in batch], length=length))
    answered(vmm.program)
    works_on(vmm)


@EXAMPLES
@given(st.lists(descriptors, max_size=20), st.lists(words, min_size=1, max_size=6))
def test_queues_of_any_content_with_any_tails_end(ring: list[bytes], tails: list[int]) -> None:
    vmm = Vmm.make()
    base = vmm.guest.page()
    vmm.program.must(vmm.queue(base))
    for index, raw in enumerate(ring):
        at = base - BASE + 32 * index
        vmm.guest.memory.pages[at : at + 32] = raw
    registers = vmm.map_registers().region.registers
    for tail in tails:
        registers.write(OFFSETS["IQT"], tail.to_bytes(8, "little"))
        registers.write(OFFSETS["FSTS"], b"\xff" * 4)
        registers.write(tail % PAGE, tail.to_bytes(8, "little")[: 1 + tail % 8])
        registers.read(tail % PAGE, tail % 9)
    works_on(vmm)


@EXAMPLES
@given(words, words, st.sampled_from([48, 57, 0, 64]), st.integers(0, 3), st.binary(min_size=64, max_size=64))
def test_tables_of_any_content_anywhere_are_attached_or_refused(
    flags: int, table: int, width: int, where: int, content: bytes
) -> None:
    vmm = Vmm.make()
    vmm.guest.memory.pages[: len(content)] = content
    at = (table, BASE, BASE + GUEST_SIZE, vmm.guest.root)[where]
    hwpt = vmm.program.nested(vmm.device, vmm.viommu, at, s1_flags=flags, width=width)
    try:
        vmm.device.replace(hwpt)
    except KernelError:
        vmm.device.detach()
    for access in (Access.READ, Access.WRITE):
        vmm.program.host.machine.translate(RID, IOVA, access)
    works_on(vmm)


@EXAMPLES
@given(words, words, words)
def test_any_data_type_and_length_is_answered(data_type: int, length: int, address: int) -> None:
    vmm = Vmm.make()
    program = vmm.program
    for below in (vmm.viommu, vmm.guest.parent, vmm.guest.ioas):
        cmd = program.nested_command(vmm.device, below, vmm.guest.root)
        cmd.data_type, cmd.data_len, cmd.data_uptr = data_type & 0xFFFFFFFF, length & 0xFFFFFFFF, address
        program.call(cmd)
    for target in (vmm.viommu, vmm.hwpt):
        request = uapi.HwptInvalidate.of(
            hwpt_id=target, data_uptr=address, data_type=TYPE, entry_len=length & 0xFFF, entry_num=length & 0xF
        )
        program.call(request)
        answered(program)
    works_on(vmm)
