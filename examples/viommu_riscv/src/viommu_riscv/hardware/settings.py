"""What the registers say of one IOMMU: what it can, and how software has set it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from viommu.errors import BadRegister

from viommu_riscv.spec.command_meanings import process_last
from viommu_riscv.spec.directories import PdtpMode, StageMode
from viommu_riscv.spec.registers import Capabilities, Ddtp, Fctl, InterruptGeneration, IommuMode

if TYPE_CHECKING:
    from viommu.hookspecs import Registers

EVERYTHING = Capabilities(
    version=0x10,
    Sv39=1,
    Sv48=1,
    Sv57=1,
    Svrsw60t59b=1,
    Svpbmt=1,
    Sv39x4=1,
    Sv48x4=1,
    Sv57x4=1,
    AMO_MRIF=1,
    MSI_FLAT=1,
    MSI_MRIF=1,
    AMO_HWAD=1,
    ATS=1,
    T2GPA=1,
    END=1,
    IGS=InterruptGeneration.BOTH,
    PAS=56,
    PD8=1,
    PD17=1,
    PD20=1,
    NL=1,
    S=1,
)
"""All that is modelled."""

LEVELS = {StageMode.Sv39: 3, StageMode.Sv48: 4, StageMode.Sv57: 5}
DIRECTORY_LEVELS = {IommuMode.LVL1: 1, IommuMode.LVL2: 2, IommuMode.LVL3: 3}
DEVICE_BITS = 24
PROCESS_BITS = {PdtpMode.PD8: 8, PdtpMode.PD17: 17, PdtpMode.PD20: 20}


@frozen
class Settings:
    """One state of the registers that translation goes by."""

    able: Capabilities
    control: Fctl
    ddtp: Ddtp

    @classmethod
    def of(cls, registers: Registers) -> Settings:
        """Read them. Raises BadRegister where they describe no IOMMU that is modelled."""
        given = registers.values.get("CAPABILITIES")
        able = EVERYTHING if given is None else Capabilities.decode(given & (1 << 64) - 1)
        control, ddtp = Fctl.decode(registers["FCTL"]), Ddtp.decode(registers["DDTP"])
        if able.PAS < 12:
            raise BadRegister("CAPABILITIES", int(able), "PAS is at least 12")
        if control.GXL:
            raise BadRegister("FCTL", int(control), "GXL is 0: Sv32x4 is not modelled")
        if ddtp.iommu_mode not in set(IommuMode):
            raise BadRegister("DDTP", int(ddtp), "iommu_mode is 0 to 4")
        return cls(able, control, ddtp)

    @property
    def big_endian(self) -> bool:
        """Whether device directory, second stage, MSI tables and queues are big-endian."""
        return bool(self.control.BE)

    @property
    def address_bits(self) -> int:
        """Physical addresses have so many bits."""
        return self.able.PAS

    @property
    def levels(self) -> int:
        """Levels of the device directory; 0 where there is none."""
        return DIRECTORY_LEVELS.get(self.ddtp.iommu_mode, 0)  # type: ignore[call-overload, no-any-return]

    @property
    def leaf_bits(self) -> int:
        """Bits of a device_id that the last level of the device directory is indexed by."""
        return 6 if self.able.MSI_FLAT else 7

    @property
    def device_last(self) -> int:
        """The largest device_id that the device directory has a place for; any, where there is no directory."""
        levels = self.levels
        return (1 << (DEVICE_BITS if levels in {0, 3} else self.leaf_bits + 9 * (levels - 1))) - 1

    @property
    def process_last(self) -> int:
        """The largest process_id that a process directory may have a place for."""
        return process_last(self.able)

    @property
    def guest_address_bits(self) -> int:
        """MGAW: guest physical addresses that MSI pages may have."""
        able = self.able
        return 59 if able.Sv57x4 else 50 if able.Sv48x4 else 41 if able.Sv39x4 else able.PAS

    def has_first_stage(self, mode: int) -> bool:
        """Whether iosatp.MODE is one of this IOMMU's."""
        able = self.able
        return mode == StageMode.Bare or bool(
            {StageMode.Sv39: able.Sv39, StageMode.Sv48: able.Sv48, StageMode.Sv57: able.Sv57}.get(mode)  # type: ignore[call-overload]
        )

    def has_second_stage(self, mode: int) -> bool:
        """Whether iohgatp.MODE is one of this IOMMU's."""
        able = self.able
        return mode == StageMode.Bare or bool(
            {StageMode.Sv39: able.Sv39x4, StageMode.Sv48: able.Sv48x4, StageMode.Sv57: able.Sv57x4}.get(mode)  # type: ignore[call-overload]
        )

    def has_process_directory(self, mode: int) -> bool:
        """Whether pdtp.MODE is one of this IOMMU's."""
        able = self.able
        return mode == PdtpMode.Bare or bool(
            {PdtpMode.PD8: able.PD8, PdtpMode.PD17: able.PD17, PdtpMode.PD20: able.PD20}.get(mode)  # type: ignore[call-overload]
        )
