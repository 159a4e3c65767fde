"""What an event tells, in words, and what is likely wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_smmuv3_cmdqv.explain.words import complaints_of, stream
from viommu_smmuv3_cmdqv.spec.events import (
    RECORDS,
    EventId,
    EventRecord,
    FetchRecord,
    OperationClass,
    TransactionRecord,
    TranslationRecord,
    WalkAbortRecord,
    WalkRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALIASES = {"type": "ID", "cls": "CLASS", "addr": "InputAddr"}
IMPLEMENTATION_DEFINED = range(0xE0, 0xF0)

WHAT: Mapping[EventId, str] = {
    EventId.F_UUT: "the SMMU cannot make anything of this kind of transaction",
    EventId.C_BAD_STREAMID: "no STE: the StreamID is beyond the stream table, or its L1STD is not valid",
    EventId.F_STE_FETCH: "the STE, or the L1STD before it, could not be read",
    EventId.C_BAD_STE: "the STE is not valid, or illegal",
    EventId.F_BAD_ATS_TREQ: "an ATS translation request, which this stream may not send",
    EventId.F_STREAM_DISABLED: "the STE ends transactions without a SubstreamID (or with SubstreamID 0)",
    EventId.F_TRANSL_FORBIDDEN: "an access with an address that ATS gave, which this stream may not send",
    EventId.C_BAD_SUBSTREAMID: "no CD: the SubstreamID is beyond the CD table, or its L1CD is not valid",
    EventId.F_CD_FETCH: "the CD, or the L1CD before it, could not be read",
    EventId.C_BAD_CD: "the CD is not valid, or illegal",
    EventId.F_WALK_EABT: "an entry of a page table could not be read or updated",
    EventId.F_TRANSLATION: "nothing is mapped there",
    EventId.F_ADDR_SIZE: "an address in the tables is beyond the output size",
    EventId.F_ACCESS: "the page's access flag is clear, and hardware does not set it",
    EventId.F_PERMISSION: "the page does not permit it",
    EventId.F_TLB_CONFLICT: "two cached translations contradict each other",
    EventId.F_CFG_CONFLICT: "two cached configurations contradict each other",
    EventId.E_PAGE_REQUEST: "a hint that a page will be wanted",
    EventId.F_VMS_FETCH: "the VM structure could not be read",
}

CAUSES: Mapping[EventId, tuple[str, ...]] = {
    EventId.F_UUT: ("the device or the interconnect sends what this SMMU does not support",),
    EventId.C_BAD_STREAMID: (
        "the device's StreamID is not the one that firmware tells (IORT, iommu-map)",
        "the L1STD has SPAN 0: nobody attached the device yet",
        "STRTAB_BASE_CFG.LOG2SIZE is too small",
    ),
    EventId.F_STE_FETCH: ("the L1STD points to where no memory is", "STRTAB_BASE is wrong"),
    EventId.C_BAD_STE: (
        "V is 0: no driver set the stream up",
        "a field asks for what the SMMU's IDR registers lack",
        "stage-2 sizes that do not go together (S2T0SZ, S2SL0, S2TG)",
        "the STE was changed without CFGI_STE, or not in the order that the specification asks for",
    ),
    EventId.F_BAD_ATS_TREQ: (
        "ATS is enabled in the device but not in the STE (EATS 0)",
        "the stream is in bypass or abort, where ATS is refused",
    ),
    EventId.F_STREAM_DISABLED: (
        "the device sends transactions without a PASID, and S1DSS ends them",
        "SubstreamID 0 is used although S1DSS gives its CD to transactions without one",
    ),
    EventId.F_TRANSL_FORBIDDEN: (
        "the device uses a cached translation after EATS was cleared: ATC_INV is missing",
        "a device that is not trusted makes up translated addresses",
    ),
    EventId.C_BAD_SUBSTREAMID: (
        "the PASID is not bound (its L1CD is not valid), or unbound too early",
        "the PASID is beyond S1CDMax, or the STE has no substreams",
    ),
    EventId.F_CD_FETCH: ("S1ContextPtr or an L1CD points to where no memory is",),
    EventId.C_BAD_CD: (
        "V is 0: no address space is attached",
        "sizes that the SMMU lacks (T0SZ, TG0, IPS)",
        "a table that is beyond IPS",
        "S or A that IDR0.STALL_MODEL or TERM_MODEL forbids",
    ),
    EventId.F_WALK_EABT: ("a table entry points to where no memory is", "a table was freed while it was in use"),
    EventId.F_TRANSLATION: (
        "the driver never mapped this address, or unmapped it while the device still used it",
        "the device was given a physical or CPU virtual address",
        "the address is outside what the page table covers (T0SZ, or upper bits that do not agree)",
        "TTBx of that half is disabled (EPDx)",
    ),
    EventId.F_ADDR_SIZE: (
        "a page lies beyond IPS, S2PS or OAS",
        "the stream bypasses stage 1 and the device's address is too large",
        "a page-table entry is corrupt",
    ),
    EventId.F_ACCESS: ("software leaves the access flag to hardware (HA), which is off", "AFFD is not set"),
    EventId.F_PERMISSION: (
        "the buffer is mapped for the other direction (a write to a read-only page)",
        "the access is unprivileged and the page is for the privileged",
        "the page is execute-never",
    ),
    EventId.F_TLB_CONFLICT: ("a block was split, or pages were joined, without break-before-make",),
    EventId.F_CFG_CONFLICT: ("neighbouring STEs differ although CONT says that they are the same",),
    EventId.E_PAGE_REQUEST: (),
    EventId.F_VMS_FETCH: ("the VM structure's address is wrong",),
}

BEHIND_STAGE_2 = {
    OperationClass.CD: "stage 2 does not map the context descriptor, whose address is an IPA",
    OperationClass.TT: "stage 2 does not map a stage-1 table, whose address is an IPA",
    OperationClass.IN: "stage 2 lacks the page that stage 1 leads to",
}


def decode_event(raw: bytes) -> Decoded:
    """Explain 32 bytes of an event queue."""
    number = raw[0]
    if number not in set(EventId):
        return _unknown(number, raw)
    event = EventId(number)
    record = RECORDS[event].decode(raw)
    return Decoded(
        "event",
        event.name,
        record,
        f"{WHAT[event]}: {_circumstances(record)}",
        tuple(complaints_of(record)),
        tuple(_causes(event, record)),
        aliases=(f"{number:#04x}",),
        field_aliases={alias: own for alias, own in ALIASES.items() if own in record.fields},
    )


def _unknown(number: int, raw: bytes) -> Decoded:
    defined = number in IMPLEMENTATION_DEFINED
    name = f"IMPDEF {number:#x}" if defined else f"reserved {number:#x}"
    meaning = "the implementer's own event" if defined else "no event has this number"
    return Decoded("event", name, EventRecord.decode(raw), meaning, () if defined else (f"ID {number:#x} is reserved",))


def _circumstances(record: EventRecord) -> str:
    who = stream(record.SID, getattr(record, "SSV", "SSID" in record.fields), getattr(record, "SSID", 0))
    return ", ".join([who, *_access(record), *_stage(record), *_addresses(record)])


def _access(record: EventRecord) -> Iterator[str]:
    if not isinstance(record, TransactionRecord):
        return
    privilege = "privileged" if record.PnU else "unprivileged"
    kind = "instruction fetch" if record.InD else "read" if record.RnW else "write"
    yield f"{privilege} {kind} at {record.InputAddr:#x}"


def _stage(record: EventRecord) -> Iterator[str]:
    if not isinstance(record, WalkRecord):
        return
    yield f"stage {2 if record.S2 else 1}"
    wherefore = {OperationClass.CD: "fetching a CD", OperationClass.TT: "using a table", OperationClass.IN: ""}
    sake = wherefore.get(OperationClass(record.CLASS) if record.CLASS in set(OperationClass) else OperationClass.IN)
    if sake:
        yield sake
    if isinstance(record, TranslationRecord) and record.STALL:
        yield f"the access waits as {record.STAG:#x}"


def _addresses(record: EventRecord) -> Iterator[str]:
    if isinstance(record, FetchRecord | WalkAbortRecord):
        yield f"fetching {record.FetchAddr:#x}"
    if isinstance(record, TranslationRecord) and record.S2:
        yield f"IPA {record.IPA:#x}"


def _causes(event: EventId, record: EventRecord) -> Iterator[str]:
    if isinstance(record, TranslationRecord) and record.S2 and record.CLASS in BEHIND_STAGE_2:
        yield BEHIND_STAGE_2[OperationClass(record.CLASS)]
    yield from CAUSES[event]
