"""The registers of a CMDQV as its driver reads and writes them: of the block, and of one VCMDQ in its VINTF's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    VCMDQ_BASE,
    VCMDQ_CONFIG,
    VCMDQ_CONS_INDX,
    VCMDQ_GERROR,
    VCMDQ_STATUS,
    VcmdqError,
)
from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import Mmio

D = TypeVar("D", bound="Descriptor")
WORD = 4


@frozen(eq=False)
class BlockRegisters:
    """Reads and writes registers of the block, by place and layout."""

    port: Mmio

    def read(self, place: int, layout: type[D]) -> D:
        """Read a register."""
        return layout.decode(self.port.read(spec.PLACE + place, layout.size))

    def write(self, place: int, value: Descriptor) -> None:
        """Write a register."""
        self.port.write(spec.PLACE + place, value.size, int(value))

    def read_wide(self, place: int) -> int:
        """Read 64 bits, whose place need not be a multiple of 8."""
        low, high = (self.port.read(spec.PLACE + place + at, WORD) for at in (0, WORD))
        return low | high << 32


@frozen(eq=False)
class VcmdqRegisters:
    """The registers of one VCMDQ, where its VINTF shows them; what `CommandQueue` needs."""

    block: BlockRegisters
    vintf: int
    logical: int

    @property
    def page0(self) -> int:
        """Where its indices and errors are."""
        return spec.VINTF_PAGE0 + self.vintf * spec.VINTF_STRIDE + self.logical * spec.VCMDQ_STRIDE

    @property
    def page1(self) -> int:
        """Where its addresses are."""
        return self.page0 + spec.VINTF_PAGE1 - spec.VINTF_PAGE0

    def start(self, base: VCMDQ_BASE) -> None:
        """Say where the queue is."""
        self.block.write(self.page1 + spec.BASE_AT, base)

    def enable(self) -> bool:
        """Let it run; whether it does."""
        self.block.write(self.page0 + spec.VCMDQ_CONFIG_AT, VCMDQ_CONFIG(EN=1))
        return bool(self.block.read(self.page0 + spec.VCMDQ_STATUS_AT, VCMDQ_STATUS).EN_OK)

    def stop(self) -> None:
        """Stop it, and leave nothing of its last owner."""
        block = self.block
        block.write(self.page0 + spec.VCMDQ_CONFIG_AT, VCMDQ_CONFIG())
        block.write(self.page0 + spec.PROD_AT, spec.VCMDQ_PROD_INDX())
        block.write(self.page0 + spec.CONS_AT, VCMDQ_CONS_INDX())
        block.write(self.page1 + spec.BASE_AT, VCMDQ_BASE())
        block.write(self.page1 + spec.CONS_BASE_AT, spec.VCMDQ_CONS_INDX_BASE())
        self.acknowledge()

    def ring(self, pointer: int) -> None:
        """Write PROD_INDX."""
        self.block.write(self.page0 + spec.PROD_AT, spec.VCMDQ_PROD_INDX(WR=pointer))

    def consumed(self) -> tuple[int, CommandError]:
        """Read CONS_INDX; an error that the SMMU does not know counts as a refused command."""
        cons = self.block.read(self.page0 + spec.CONS_AT, VCMDQ_CONS_INDX)
        known = cons.ERR != VcmdqError.CERROR_ILL_ACCESS
        return cons.RD, CommandError(cons.ERR) if known else CommandError.CERROR_ILL

    def has_error(self) -> bool:
        """Compare GERROR and GERRORN."""
        told = self.block.read(self.page0 + spec.GERROR_AT, VCMDQ_GERROR)
        return told != self.block.read(self.page0 + spec.GERRORN_AT, VCMDQ_GERROR)

    def acknowledge(self) -> None:
        """Copy GERROR to GERRORN."""
        told = self.block.read(self.page0 + spec.GERROR_AT, VCMDQ_GERROR)
        self.block.write(self.page0 + spec.GERRORN_AT, told)
