"""Every page table that a host driver can fill, with the oracle's format that reads it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import field, frozen

from tests.oracle.amd_v1 import AmdV1
from tests.oracle.arm import ArmHalf, ArmStage1, ArmStage2
from tests.oracle.riscv import Riscv
from tests.oracle.vtd_ss import VtdSecondStage
from tests.oracle.walker import Context
from tests.oracle.x86 import X86
from viommu import table_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.oracle.stage import Format
    from viommu.io_page_table import TableShape
    from viommu.memory import PhysicalMemory


@frozen
class Kind:
    """One table: its shape, who reads it (given the root), as which stage; whether all that is mapped can be read."""

    name: str
    shape: TableShape
    reader: Callable[[int], Format]
    stage: int
    implies_read: bool = field(default=False)

    def context(self, root: int) -> Context:
        reader = self.reader(root)
        return Context(stage1=reader) if self.stage == 1 else Context(stage2=reader)


@frozen
class MachineMemory:
    """A machine's memory as the oracle wants it."""

    memory: PhysicalMemory

    def load(self, pa: int) -> int | None:
        return self.memory.load(pa)

    def store(self, pa: int, value: int) -> bool:
        return self.memory.store(pa, value)


def _arm1(input_bits: int, granule: int, output_bits: int = 48, *, ds: bool = False) -> Kind:
    def reader(root: int) -> ArmStage1:
        return ArmStage1(ArmHalf(root, input_bits, granule), output_bits=output_bits, large_52=ds)

    shape = table_shapes.arm_stage1(input_bits, granule, output_bits=output_bits, large_52=ds)
    return Kind(f"arm-s1-{1 << granule - 10}k-{input_bits}-{output_bits}", shape, reader, 1, True)


def _arm2(input_bits: int, granule: int, output_bits: int = 48, *, ds: bool = False, levels: int | None = None) -> Kind:
    shape = table_shapes.arm_stage2(input_bits, granule, output_bits=output_bits, large_52=ds, levels=levels)

    def reader(root: int) -> ArmStage2:
        return ArmStage2(root, input_bits, granule, shape.levels - 1, output_bits=output_bits, large_52=ds)

    return Kind(f"arm-s2-{1 << granule - 10}k-{input_bits}-{output_bits}-{shape.levels}", shape, reader, 2)


KINDS = [
    *(Kind(f"amd-v1-{mode}", table_shapes.amd_v1(mode), partial(AmdV1, mode=mode), 2) for mode in range(1, 7)),
    *(Kind(f"vtd-{n}", table_shapes.vtd_second_stage(n), partial(VtdSecondStage, levels=n), 2) for n in (3, 4, 5)),
    Kind("vtd-4-no-1g", table_shapes.vtd_second_stage(4, large_pages=1), partial(VtdSecondStage, levels=4), 2),
    *(Kind(f"x86-{n}", table_shapes.x86(n), partial(X86, levels=n), 1, True) for n in (4, 5)),
    *(Kind(f"riscv-{n}", table_shapes.riscv(n), partial(Riscv, levels=n), 1, True) for n in (3, 4, 5)),
    *(
        Kind(
            f"riscv-g{n}", table_shapes.riscv(n, guest_stage=True), partial(Riscv, levels=n, guest_stage=True), 2, True
        )
        for n in (3, 4, 5)
    ),
    *(_arm1(bits, granule) for bits, granule in ((25, 12), (39, 12), (48, 12), (36, 14), (47, 14), (42, 16), (48, 16))),
    _arm1(52, 16, 52),
    _arm1(52, 12, 52, ds=True),
    _arm1(52, 14, 52, ds=True),
    *(_arm2(bits, granule) for bits, granule in ((32, 12), (40, 12), (44, 12), (48, 12), (40, 14), (42, 16), (46, 16))),
    _arm2(40, 12, levels=4),
    _arm2(52, 16, 52),
    _arm2(52, 12, 52, ds=True),
    _arm2(48, 14, 52, ds=True),
]
