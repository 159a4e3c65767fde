"""What an SMMU lets its driver do, from the ID registers, in the terms in which Linux decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from viommu_smmuv3_cmdqv.features import ADDRESS_BITS
from viommu_smmuv3_cmdqv.spec.registers import (
    AIDR,
    IDR0,
    IDR1,
    IDR2,
    IDR3,
    IDR4,
    IDR5,
    IIDR,
    HardwareUpdate,
    StallModel,
    StreamTableLevels,
    TableFormats,
)
from viommu_smmuv3_cmdqv.spec.sizes import AddressSize

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.host.registers import SmmuRegisters

SPLIT = 8
"""Log2 of the STEs in one leaf of a two-level stream table."""
MOST_L1_LG2 = 17
LARGEST_LINEAR_CDMAX = 10
"""Without two-level CD tables no more substreams are used than these."""
PAGE_LG2 = 12
"""The host's pages; IOASes are made of them."""
VIRTUAL_BITS = 48
"""Input addresses of stage 1: the host's own virtual addresses are no wider."""
AARCH32_IPA_BITS = 40


@frozen
class Abilities:
    """One SMMU's."""

    idr0: IDR0
    idr1: IDR1
    idr2: IDR2
    idr3: IDR3
    idr4: IDR4
    idr5: IDR5
    iidr: IIDR
    aidr: AIDR
    granule_lg2: int = field(init=False)
    """Log2 of the pages of tables: the host's page size, else the largest below it, else the smallest above it."""

    @classmethod
    def of(cls, registers: SmmuRegisters) -> Abilities:
        """Read the ID registers."""
        read = registers.read
        return cls(read(IDR0), read(IDR1), read(IDR2), read(IDR3), read(IDR4), read(IDR5), read(IIDR), read(AIDR))

    @granule_lg2.default
    def _granule(self) -> int:
        idr5 = self.idr5
        sizes = [lg2 for lg2, has in ((12, idr5.GRAN4K), (14, idr5.GRAN16K), (16, idr5.GRAN64K)) if has]
        return min(sizes, default=PAGE_LG2)

    @property
    def usable(self) -> bool:
        """Whether there is anything that this driver can use: a stage, AArch64 tables, a granule."""
        idr5 = self.idr5
        granules = idr5.GRAN4K or idr5.GRAN16K or idr5.GRAN64K
        return bool((self.stage1 or self.stage2) and self.idr0.TTF & TableFormats.AARCH64 and granules)

    @property
    def stage1(self) -> bool:
        """Whether there is stage 1."""
        return bool(self.idr0.S1P)

    @property
    def stage2(self) -> bool:
        """Whether there is stage 2."""
        return bool(self.idr0.S2P)

    @property
    def nested(self) -> bool:
        """Whether stage 1 can stand on stage 2."""
        return self.stage1 and self.stage2

    @property
    def coherent(self) -> bool:
        """Whether walks and DMA snoop caches."""
        return bool(self.idr0.COHACC)

    @property
    def el2(self) -> bool:
        """Whether the host runs at EL2 with E2H, and lets its own streams do so: wherever EL2 exists."""
        return bool(self.idr0.HYP)

    @property
    def stalls(self) -> bool:
        """Whether accesses can wait for software."""
        return self.idr0.STALL_MODEL in (StallModel.STALL_AND_TERMINATE, StallModel.FORCED_STALL)

    @property
    def forces_stalls(self) -> bool:
        """Whether every faulting access waits."""
        return bool(self.idr0.STALL_MODEL == StallModel.FORCED_STALL)

    @property
    def dirty(self) -> bool:
        """Whether stage 1 keeps dirty state that software can rely on."""
        return self.coherent and self.idr0.HTTU >= HardwareUpdate.ACCESS_FLAG_AND_DIRTY

    @property
    def forced_write_back(self) -> bool:
        """Whether stage 2 can decide memory types alone."""
        return bool(self.idr3.FWB)

    @property
    def ranges(self) -> bool:
        """Whether TLBIs take ranges."""
        return bool(self.idr3.RIL)

    @property
    def ssid_bits(self) -> int:
        """Log2 of the SubstreamIDs that streams can have."""
        return int(self.idr1.SSIDSIZE)

    @property
    def two_level_streams(self) -> bool:
        """Whether the stream table has two levels: where that is possible and saves anything."""
        return bool(self.idr0.ST_LEVEL == StreamTableLevels.TWO_LEVEL and self.idr1.SIDSIZE > SPLIT)

    @property
    def sid_bits(self) -> int:
        """Log2 of the StreamIDs that the driver's stream table has."""
        most = SPLIT + MOST_L1_LG2 if self.two_level_streams else MOST_L1_LG2
        return min(self.idr1.SIDSIZE, most)

    @property
    def asids(self) -> int:
        """How many ASIDs there are, 0 among them."""
        return 1 << (16 if self.idr0.ASID16 else 8)

    @property
    def vmids(self) -> int:
        """How many VMIDs there are, 0 among them."""
        return 1 << (16 if self.idr0.VMID16 else 8)

    @property
    def output_bits(self) -> int:
        """Bits of a physical address in tables: more than 48 need the 64 KB granule, as DS is not used."""
        oas = ADDRESS_BITS[AddressSize(self.idr5.OAS)]
        return oas if self.granule_lg2 == 16 else min(oas, 48)

    @property
    def output_code(self) -> AddressSize:
        """The same, as STE.S2PS and CD.IPS name it."""
        return next(code for code, bits in ADDRESS_BITS.items() if bits == self.output_bits)

    @property
    def intermediate_bits(self) -> int:
        """Bits of an IPA."""
        both = bool(self.idr0.TTF & TableFormats.AARCH32)
        return max(self.output_bits, AARCH32_IPA_BITS) if both else self.output_bits
