"""The entry point ``riscv``: the hooks, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl

from viommu_riscv import explain
from viommu_riscv.hardware import RiscvIommu
from viommu_riscv.host.hooks import (
    viommu_alloc_nested_on,
    viommu_alloc_paging,
    viommu_attach,
    viommu_destroy,
    viommu_detach,
    viommu_device_facts,
    viommu_free_domain,
    viommu_hw_info,
    viommu_init,
    viommu_interrupt,
    viommu_invalidate,
    viommu_invalidate_device_tlb,
    viommu_page_response,
    viommu_probe,
    viommu_probe_device,
    viommu_read_dirty,
    viommu_release_device,
    viommu_set_dirty_tracking,
    viommu_set_stage2,
    viommu_supports,
    viommu_vdevice_init,
)
from viommu_riscv.spec import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.testing import GuestKit

__all__ = [
    "hookspec_version",
    "viommu_alloc_nested_on",
    "viommu_alloc_paging",
    "viommu_attach",
    "viommu_conformance",
    "viommu_decode",
    "viommu_destroy",
    "viommu_detach",
    "viommu_device_facts",
    "viommu_driver_info",
    "viommu_free_domain",
    "viommu_hardware",
    "viommu_hw_info",
    "viommu_init",
    "viommu_interrupt",
    "viommu_invalidate",
    "viommu_invalidate_device_tlb",
    "viommu_kinds",
    "viommu_layouts",
    "viommu_log_line",
    "viommu_page_response",
    "viommu_probe",
    "viommu_probe_device",
    "viommu_read_dirty",
    "viommu_release_device",
    "viommu_set_dirty_tracking",
    "viommu_set_stage2",
    "viommu_supports",
    "viommu_vdevice_init",
]

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
        "a host driver: paging domains of both stages, PASIDs, dirty tracking, page requests",
        "nested domains, vIOMMUs, invalidation by vIOMMU, events to a guest",
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


@hookimpl
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise what Linux's driver logs of a fault."""
    return explain.recognised(line)


@hookimpl
def viommu_conformance() -> GuestKit:
    """How its guests are made."""
    from viommu_riscv.conformance import KIT  # noqa: PLC0415 - the kit is for who tests

    return KIT
