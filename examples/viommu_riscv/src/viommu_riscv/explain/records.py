"""Fault and page-request records in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded

from viommu_riscv.explain.words import reserved
from viommu_riscv.spec.records import IMPLICIT, IMPLICIT_WRITE, Cause, FaultRecord, PageRequestRecord, TransactionType

if TYPE_CHECKING:
    from collections.abc import Mapping

GUEST_PAGE = {Cause.INSTRUCTION_GUEST_PAGE, Cause.READ_GUEST_PAGE, Cause.WRITE_GUEST_PAGE}

CAUSES: Mapping[int, tuple[str, ...]] = {
    Cause.INSTRUCTION_PAGE: ("the leaf has no X, or U does not fit the privilege", "nothing is mapped there"),
    Cause.READ_PAGE: ("nothing is mapped there", "A is 0 and tc.SADE is 0", "U does not fit the privilege"),
    Cause.WRITE_PAGE: ("the leaf has no W", "D is 0 and tc.SADE is 0", "nothing is mapped there"),
    Cause.INSTRUCTION_GUEST_PAGE: ("the second stage has no X there",),
    Cause.READ_GUEST_PAGE: ("the guest has no memory there", "U of the second-stage leaf is 0"),
    Cause.WRITE_GUEST_PAGE: ("the guest may not write there", "D is 0 and tc.GADE is 0"),
    Cause.ALL_DISALLOWED: ("ddtp.iommu_mode is Off",),
    Cause.DDT_ACCESS: ("ddtp or a directory entry leads to where no memory is",),
    Cause.DDT_NOT_VALID: ("nobody has set this device up",),
    Cause.DDT_MISCONFIGURED: ("reserved bits, or a mode that capabilities does not have",),
    Cause.TYPE_DISALLOWED: (
        "a process_id while tc.PDTV is 0, or one that is too wide",
        "a privileged request while ta.ENS is 0",
        "ATS while tc.EN_ATS is 0",
        "a device_id that the directory is too shallow for",
    ),
    Cause.MSI_ACCESS: ("the MSI page table lies where no memory is",),
    Cause.MSI_NOT_VALID: ("no interrupt file is behind this page",),
    Cause.MSI_MISCONFIGURED: ("reserved bits or modes of an MSI page-table entry",),
    Cause.PDT_ACCESS: ("the process directory lies where no memory is",),
    Cause.PDT_NOT_VALID: ("nobody has set this process up",),
    Cause.PDT_MISCONFIGURED: ("reserved bits, or a mode that capabilities does not have",),
    Cause.MSI_WRITE_ACCESS: ("msi_addr of the vector leads to where no memory can be",),
}
"""What is likely wrong, likeliest first."""


def decode_fault(raw: bytes) -> Decoded:
    """Explain an entry of the fault queue. Recordings name causes by number."""
    record = FaultRecord.decode(raw)
    known = isinstance(record.CAUSE, Cause)
    name = Cause(record.CAUSE).name if known else f"cause {record.CAUSE:#x}"
    complaints = reserved(record) if known else (f"cause {record.CAUSE:#x} is reserved", *reserved(record))
    causes = CAUSES.get(record.CAUSE, ())
    return Decoded("event", name, record, _told(record), complaints, causes, aliases=(hex(record.CAUSE),))


def decode_page_request(raw: bytes) -> Decoded:
    """Explain an entry of the page-request queue."""
    record = PageRequestRecord.decode(raw)
    wants = [word for word, bit in (("read", record.R), ("write", record.W), ("execute", record.EXEC)) if bit]
    asks = f"asks to {' and '.join(wants)}" if wants else "asks for nothing"
    if record.L and not (record.R or record.W):
        asks = "stops using the process id (a stop marker)"
    end = ", the last of its group" if record.L else ""
    meaning = f"Device {record.DID:#x}{_process(record)} {asks} at {record.address:#x}, group {record.PRGI:#x}{end}."
    return Decoded("page-request", "PAGE_REQUEST", record, meaning, reserved(record))


def _told(record: FaultRecord) -> str:
    kind = TransactionType(record.TTYP) if isinstance(record.TTYP, TransactionType) else None
    if kind is TransactionType.NONE:
        return f"Not of a device's doing; {record.iotval:#x}."
    what = "an unknown transaction" if kind is None else kind.name.lower().replace("_", " ")
    if kind is TransactionType.MESSAGE:
        return f"Device {record.DID:#x}{_process(record)}: message with code {record.iotval:#x}."
    where = f"Device {record.DID:#x}{_process(record)}: {what} of IOVA {record.iotval:#x}"
    if record.CAUSE not in GUEST_PAGE:
        return f"{where}."
    implicit = ", for a first-stage table" if record.iotval2 & IMPLICIT else ""
    implicit += " that was to be updated" if record.iotval2 & IMPLICIT_WRITE else ""
    return f"{where}, at guest address {record.iotval2 & ~3:#x}{implicit}."


def _process(record: FaultRecord | PageRequestRecord) -> str:
    privileged = ", privileged" if record.PRIV else ""
    return f", process {record.PID:#x}{privileged}" if record.PV else ""
