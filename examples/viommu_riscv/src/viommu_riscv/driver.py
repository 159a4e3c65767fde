"""The entry point ``riscv``: the hooks, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl

from viommu_riscv import explain
from viommu_riscv.hardware import RiscvIommu
from viommu_riscv.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

hookspec_version = 1

_INFO = DriverInfo(
    name="riscv",
    title="RISC-V IOMMU",
    requester_bits=24,
    pasid_bits=20,
    supports=(
        "device directories of 1 to 3 levels, base and extended format",
        "process directories of 8, 17 and 20 bits",
        "Sv39, Sv48, Sv57 and their x4 forms, with Svnapot, Svpbmt and Svrsw60t59b",
        "accessed and dirty flags set by hardware",
        "MSI page tables and memory-resident interrupt files",
        "registers, command, fault and page-request queue, little- and big-endian",
        "ATS, T2GPA and page requests",
    ),
    specification="RISC-V IOMMU Architecture Specification 1.0; Advanced Interrupt Architecture 1.0",
)


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Who this driver is."""
    return _INFO


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Every structure, register, command and record."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
    """One IOMMU, which can do all that is modelled where no register is given.

    Raises BadRegister where the registers describe no such IOMMU.
    """
    return RiscvIommu.of(memory, registers, platform)


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Commands, records, structures, page-table entries, and every register by its name."""
    return explain.KINDS


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes."""
    return explain.decode(kind, raw)
