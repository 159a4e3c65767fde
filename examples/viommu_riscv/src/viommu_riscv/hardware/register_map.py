"""What software may store in each register; those that capabilities leave out are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.registers import Register

from viommu_riscv.spec.registers import (
    LAYOUTS,
    VECTORS,
    Cqcsr,
    Fctl,
    Fqcsr,
    InterruptGeneration,
    Ipsr,
    Pqcsr,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu_riscv.spec.registers import Capabilities

READ_ONLY = 0
PAGE_REQUEST_REGISTERS = ("PQB", "PQH", "PQT", "PQCSR")
CQCSR_CLEARS = int(Cqcsr(cqmf=1, cmd_to=1, cmd_ill=1, fence_w_ip=1))
FQCSR_CLEARS = int(Fqcsr(fqmf=1, fqof=1))
PQCSR_CLEARS = int(Pqcsr(pqmf=1, pqof=1))
IPSR_CLEARS = int(Ipsr(cip=1, fip=1, pmip=1, pip=1))

PROTECTED: Mapping[str, tuple[int, int]] = {
    "CAPABILITIES": (READ_ONLY, 0),
    "CQH": (READ_ONLY, 0),
    "FQT": (READ_ONLY, 0),
    "PQT": (READ_ONLY, 0),
    "CQCSR": (int(Cqcsr(cqen=1, cie=1)), CQCSR_CLEARS),
    "FQCSR": (int(Fqcsr(fqen=1, fie=1)), FQCSR_CLEARS),
    "PQCSR": (int(Pqcsr(pqen=1, pie=1)), PQCSR_CLEARS),
    "IPSR": (READ_ONLY, IPSR_CLEARS),
}
"""Register -> the bits that a store sets, and those that a 1 clears; of others, all that have a name are set."""


def registers(able: Capabilities) -> dict[str, Register]:
    """Declare the registers of an IOMMU that can so much."""
    absent = set() if able.ATS else set(PAGE_REQUEST_REGISTERS)
    if able.IGS == InterruptGeneration.WSI:
        absent |= {f"MSI_{what}_{vector}" for what in ("ADDR", "DATA", "VEC_CTL") for vector in range(VECTORS)}
    protected = {**PROTECTED, "FCTL": (_writable_features(able), 0)}
    return {
        name: Register(offset, layout, *protected.get(name, (None, 0)))
        for name, (offset, layout) in LAYOUTS.items()
        if name not in absent
    }


def _writable_features(able: Capabilities) -> int:
    return int(Fctl(BE=able.END, WSI=able.IGS == InterruptGeneration.BOTH))
