"""The register file of one remapping unit: where registers lie, and which bits software may store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Registers
from viommu.registers import Register, RegisterFile
from viommu_vtd.spec import EVENT_REGISTERS, REGISTERS
from viommu_vtd.spec.faults import FRCD, FRCD_HI, FRCD_LO, FSTS
from viommu_vtd.spec.offsets import OFFSETS, UNIT
from viommu_vtd.spec.queue_registers import CCMD, ICS, PRS, EventControl
from viommu_vtd.spec.registers import CAP, ECAP, PMEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.layout import Descriptor, FieldSpec

READ_ONLY = {"VER", "CAP", "ECAP", "GSTS", "IQH", "IQERCD"}

WHOLE = {"IQT"}
"""Registers whose reserved bits keep what was stored, since hardware complains of them."""

STATUS_ERRORS = (FSTS.PFO, FSTS.AFO, FSTS.APF, FSTS.IQE, FSTS.ICE, FSTS.ITE, FSTS.PRO)

ABSENT: Mapping[str, str] = {
    "AFLOG": "advanced fault logging (CAP.AFL) was taken back by the specification; faults go to FRCD alone",
    "MTRRCAP": "memory types change no translation (ECAP.MTS only allows EMTE, CD and PAT); 0x100 to 0x208 read as 0",
    "PERFCAP": "performance monitoring; 0x300 to 0x3ff read as 0",
    "ECMD": "enhanced commands (CAP.ECMDS); 0x400 to 0x43f read as 0, and so say that there are none",
}
"""Registers that are not modelled, and why. They read as zero."""

FULL_CAP = CAP(
    ND=6, PLMR=1, PHMR=1, SAGAW=0b1110, MGAW=56, ZLR=1, FRO=0x22, SSLPS=3, PSI=1, NFR=7, MAMV=18, DWD=1, DRD=1,
    FL1GP=1, FL5LP=1, ESIRTPS=1, ESRTPS=1,
)  # fmt: skip
FULL_ECAP = ECAP(
    C=1, QI=1, DT=1, IR=1, EIM=1, PT=1, SC=1, IRO=0x50, MHMV=15, MTS=1, NEST=1, PRS=1, ERS=1, SRS=1, NWFS=1, EAFS=1,
    PSS=19, PASID=1, DIT=1, PDS=1, SMTS=1, SSADS=1, SSTS=1, FSTS=1, SMPWCS=1, RPS=1, ADMS=1, RPRIVS=1,
)  # fmt: skip
"""What a unit can do that is told nothing about itself: all that is modelled."""

RESET: Mapping[str, int] = {name: int(EventControl(IM=1)) for name in ("FECTL", "IECTL", "PECTL")}
"""Registers that are not zero after a reset: interrupts are masked."""


def with_reset_values(given: Registers) -> Registers:
    """Add what hardware has after a reset; all capabilities where nothing is said of any."""
    values = {**RESET, **given.values}
    if "CAP" not in values and "ECAP" not in values:
        values |= {"VER": 0x60, "CAP": int(FULL_CAP), "ECAP": int(FULL_ECAP)}
    return Registers(values)


def register_file(initial: Registers) -> RegisterFile:
    """Make the file of a unit whose capability registers are among ``initial``."""
    return RegisterFile.of(declared(CAP.decode(initial["CAP"]), ECAP.decode(initial["ECAP"])), initial)


def declared(cap: CAP, ecap: ECAP) -> dict[str, Register]:
    """Every register by name. IRO and FRO say where the last ones lie."""
    layouts = REGISTERS | EVENT_REGISTERS
    found = {name: _register(offset, name, layouts[name]) for name, offset in OFFSETS.items()}
    found["IVA"] = Register(ecap.IRO * UNIT, layouts["IVA"])
    found["IOTLB"] = Register(ecap.IRO * UNIT + 8, layouts["IOTLB"])
    found.update(_fault_records(cap))
    return found


def _fault_records(cap: CAP) -> Iterator[tuple[str, Register]]:
    for index in range(cap.NFR + 1):
        offset = cap.FRO * UNIT + index * FRCD.size
        yield f"FRCD{index}_LO", Register(offset, FRCD_LO, writable=0)
        yield f"FRCD{index}_HI", Register(offset + 8, FRCD_HI, writable=0, clears=FRCD_HI.F.mask)


def _register(offset: int, name: str, layout: type[Descriptor]) -> Register:
    match name:
        case "FSTS":
            return Register(offset, layout, writable=0, clears=_bits(*STATUS_ERRORS))
        case "ICS":
            return Register(offset, layout, writable=0, clears=_bits(ICS.IWC))
        case "PRS":
            return Register(offset, layout, writable=0, clears=_bits(PRS.PPR, PRS.PRO))
        case "PMEN":
            return Register(offset, layout, writable=_bits(PMEN.EPM))
        case "CCMD":
            return Register(offset, layout, writable=_bits(CCMD.DID, CCMD.SID, CCMD.FM, CCMD.CIRG, CCMD.ICC))
        case "FECTL" | "IECTL" | "PECTL":
            return Register(offset, layout, writable=_bits(EventControl.IM))
    if name in READ_ONLY:
        return Register(offset, layout, writable=0)
    return Register(offset, layout, writable=(1 << layout.width) - 1 if name in WHOLE else None)


def _bits(*fields: FieldSpec) -> int:
    return sum(field.mask for field in fields)
