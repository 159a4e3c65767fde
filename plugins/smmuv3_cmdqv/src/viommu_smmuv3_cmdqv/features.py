"""The registers of one SMMU, decoded, and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from attrs import field, frozen

from viommu.errors import BadRegister
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_PARAM
from viommu_smmuv3_cmdqv.spec.registers import (
    CR0,
    CR2,
    GBPA,
    IDR0,
    IDR1,
    IDR3,
    IDR5,
    STRTAB_BASE,
    STRTAB_BASE_CFG,
    TableFormats,
)
from viommu_smmuv3_cmdqv.spec.sizes import AddressSize

if TYPE_CHECKING:
    from viommu.layout import Descriptor

    Register = TypeVar("Register", bound=Descriptor)

ADDRESS_BITS = {
    AddressSize.BITS_32: 32,
    AddressSize.BITS_36: 36,
    AddressSize.BITS_40: 40,
    AddressSize.BITS_42: 42,
    AddressSize.BITS_44: 44,
    AddressSize.BITS_48: 48,
    AddressSize.BITS_52: 52,
    AddressSize.BITS_56: 52,  # 56 bits exist in VMSAv9-128 tables alone
}
AARCH32_IPA_BITS = 40


class RegisterValues(Protocol):
    """Values by the register's name: `viommu.hookspecs.Registers`, or the registers of a live model."""

    def __getitem__(self, name: str) -> int:
        """The value of one register."""


@frozen
class Features:
    """What one SMMU can do and how software set it up: a snapshot of its registers."""

    idr0: IDR0
    idr1: IDR1
    idr3: IDR3
    idr5: IDR5
    cr0: CR0
    cr2: CR2
    gbpa: GBPA
    strtab_base: STRTAB_BASE
    strtab_base_cfg: STRTAB_BASE_CFG
    oas: int = field(init=False)
    """Bits of a physical address."""
    ias: int = field(init=False)
    """Bits of an intermediate physical address (3.4)."""
    granules: frozenset[int] = field(init=False)
    """Log2 of the page sizes that tables may have."""

    @oas.default
    def _output_size(self) -> int:
        return ADDRESS_BITS[AddressSize(self.idr5.OAS)]

    @ias.default
    def _intermediate_size(self) -> int:
        return max(self.oas, AARCH32_IPA_BITS) if self.idr0.TTF & TableFormats.AARCH32 else self.oas

    @granules.default
    def _granules(self) -> frozenset[int]:
        present = {12: self.idr5.GRAN4K, 14: self.idr5.GRAN16K, 16: self.idr5.GRAN64K}
        return frozenset(lg2 for lg2, implemented in present.items() if implemented)

    def effective_size(self, code: int) -> int:
        """Bits of the addresses that tables with size code ``code`` (IPS, S2PS) may give: never above OAS."""
        return min(ADDRESS_BITS[AddressSize(code)], self.oas)


def read_features(registers: RegisterValues) -> Features:
    """Decode ``registers``. Raises BadRegister where they describe no SMMU that this driver models."""
    features = Features(
        idr0=_read(IDR0, registers),
        idr1=_read(IDR1, registers),
        idr3=_read(IDR3, registers),
        idr5=_read(IDR5, registers),
        cr0=_read(CR0, registers),
        cr2=_read(CR2, registers),
        gbpa=_read(GBPA, registers),
        strtab_base=_read(STRTAB_BASE, registers),
        strtab_base_cfg=_read(STRTAB_BASE_CFG, registers),
    )
    idr0 = features.idr0
    if (idr0.S1P or idr0.S2P) and not idr0.TTF & TableFormats.AARCH64:
        raise BadRegister("IDR0", int(idr0), f"TTF is {int(idr0.TTF)}, but only AArch64 tables (2 or 3) are modelled")
    return features


def read_cmdqv(registers: RegisterValues) -> CMDQV_PARAM:
    """Decode how much of a CMDQV there is; VER is 0 where there is none. Raises BadRegister."""
    param = _read(CMDQV_PARAM, registers)
    for name, most in (("NUM_VCMDQ_LOG2", 7), ("NUM_VINTF_LOG2", 6), ("NUM_SID_PER_VM_LOG2", 4)):
        if getattr(param, name) > most:
            raise BadRegister("CMDQV_PARAM", int(param), f"{name} is {getattr(param, name)}, its registers hold {most}")
    if param.NUM_VINTF_LOG2 > param.NUM_VCMDQ_LOG2:
        raise BadRegister("CMDQV_PARAM", int(param), "there are more VINTFs than VCMDQs")
    return param


def _read(layout: type[Register], registers: RegisterValues) -> Register:
    name, value = layout.__name__, registers[layout.__name__]
    try:
        return layout.decode(value)
    except ValueError:
        raise BadRegister(name, value, f"a value of {layout.width} bits is needed") from None
