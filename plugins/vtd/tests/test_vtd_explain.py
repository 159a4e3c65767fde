"""What is said of bytes, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu_vtd.explain import KINDS, decode
from viommu_vtd.explain.causes import REASONS
from viommu_vtd.explain.commands import MEANINGS, NAMES, SHORT
from viommu_vtd.explain.words import bits_text, listed, size
from viommu_vtd.spec import EVENT_REGISTERS, REGISTERS
from viommu_vtd.spec.commands import COMMANDS
from viommu_vtd.spec.faults import FRCD, FaultReason
from viommu_vtd.spec.page_requests import PageRequestDescriptor
from viommu_vtd.spec.pasid import PasidTableEntry
from viommu_vtd.spec.queue_registers import IQERCD
from viommu_vtd.spec.root_context import ContextEntry, ScalableContextEntry


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


@pytest.mark.parametrize(
    ("raw", "name", "meaning"),
    [
        (words(0x11, 0), "context-cache invalidate", "Drop all context entries."),
        (words(0x50021, 0), "", "Drop the context entries of domain 5 (in scalable mode: all)."),
        (words(0x3_0108_0005_0031, 0), "", "Drop the context entries of 01:01.0 and all functions of it."),
        (
            words(0x500F2, 0x10004),
            "IOTLB invalidate",
            "Drop second-stage translations of domain 5 for 64 KiB at 0x10000.",
        ),
        (words(0x500F2, 0x10040), "", "Drop second-stage translations of domain 5 for 4 KiB at 0x10000, leaves only."),
        (words(0x500E2, 0), "", "Drop all translations of domain 5."),
        (words(0x12, 0), "", "Drop every translation."),
        (words(0x2, 0), "", "Drop nothing: G is reserved."),
        (
            words(0x7_0005_0036, 0x10000),
            "PASID-based IOTLB invalidate",
            "Drop first-stage and nested translations of PASID 0x7 in domain 5 for 4 KiB at 0x10000.",
        ),
        (words(0x7_0005_0026, 0), "", "Drop all first-stage and nested translations of PASID 0x7 in domain 5."),
        (words(0x7_0005_0017, 0), "PASID-cache invalidate", "Drop the entries of PASID 0x7 in domain 5."),
        (words(0x37, 0), "", "Drop all PASID table entries."),
        (
            words(0x2_0000_0025, 0x14023F000),
            "invalidation wait",
            "When all before it is done, store 0x2 at 0x14023f000.",
        ),
        (
            words(0xF5, 0),
            "",
            (
                "When all before it is done and page requests are in their queue, store 0x0 at 0x0 and set"
                " ICS.IWC and interrupt; nothing after it starts before."
            ),
        ),
        (
            words(0x108_0000_0003, 0x7FFF_FFFF_FFFF_F001),
            "device-TLB invalidate",
            "Tell 01:01.0 to drop its translations without PASID of any address.",
        ),
        (
            words(0x108_0000_0003, 0x17001),
            "",
            "Tell 01:01.0 to drop its translations without PASID of 64 KiB at 0x10000.",
        ),
        (
            words(0x7_0108_0008, 0x17800),
            "PASID-based device-TLB invalidate",
            "Tell 01:01.0 to drop its translations of PASID 0x7 for 64 KiB at 0x10000.",
        ),
        (words(0x0108_0008, 0x4001), "", "Tell 01:01.0 to drop its translations of every PASID for 4 KiB at 0x4000."),
        (words(0x4, 0), "interrupt entry cache invalidate", "Drop all interrupt remapping entries."),
        (words(0x21_1800_0014, 0), "", "Drop 8 interrupt remapping entries from index 0x21."),
        (
            words(0x7_0108_0019, 0x48),
            "page group response",
            "Answer page request group 9 of 01:01.0, PASID 0x7: success.",
        ),
        (words(0x0108_2009, 0x48), "", "Answer page request group 9 of 01:01.0: failure."),
    ],
)
def test_a_descriptor_is_told_in_words(raw: bytes, name: str, meaning: str) -> None:
    for form in (raw, raw + bytes(16)):
        told = decode("command", form)

        assert told.meaning == meaning
        assert told.name == name or not name
        assert told.descriptor.encode() == form


@pytest.mark.parametrize(
    ("raw", "complaints"),
    [
        (words(0x2, 0), ("G 0x0 is reserved",)),
        (words(0x0, 0), ("type 0 is reserved (IQEI 3)",)),
        (words(0x12 | 1 << 9, 0), ("bits 9 are part of the type: no such type (IQEI 3)", "reserved bits 9 are set")),
        (words(0x12 | 1 << 40, 1 << 8), ("reserved bits 72, 40 are set",)),
        (words(0x12, 0, 1, 0), ("reserved bits 128 are set",)),
        (words(0x5, 0), ("neither SW nor IF: nobody learns that it is done (some hardware refuses that)",)),
        (words(0x37, 0), ("only scalable mode has it: its queue is of 256-bit descriptors (IQA.DW)",)),
        (words(0x37, 0, 0, 0), ()),
    ],
)
def test_what_hardware_refuses_of_a_descriptor_is_told(raw: bytes, complaints: tuple[str, ...]) -> None:
    assert decode("command", raw).complaints == complaints


def test_every_descriptor_and_every_reason_has_words() -> None:
    assert set(MEANINGS) == set(NAMES) == set(SHORT) == set(COMMANDS)
    assert set(REASONS) == set(FaultReason)
    assert all(causes for reason, (_, causes) in REASONS.items() if not reason.name.startswith("GENERAL"))


def test_a_fault_record_is_told_with_its_causes() -> None:
    record = FRCD(FI=0x1000, SID=0x6A, FR=0x59, T=1, PP=1, PASID=0x45, EXE=1, F=1)

    told = decode("event", record.encode())

    assert told.name == "PASID_ENTRY_NOT_PRESENT"
    assert told.aliases == ("0x59",)
    assert told.meaning == (
        "An execute read of 00:0d.2, PASID 0x45 at 0x1000 was refused: the PASID has no table entry (P is 0) (0x59)."
    )
    assert told.causes[0] == "the PASID was unbound while the device still uses it"
    assert told.complaints == ()


@pytest.mark.parametrize(
    ("record", "meaning"),
    [
        (FRCD(FR=5, F=1), "A write of 00:00.0 at 0x0 was refused: no page may be written there (0x5)."),
        (
            FRCD(FR=0x47, T2=1, F=1),
            (
                "A page request of 00:00.0 at 0x0 was refused: "
                "its context entry does not allow page requests (PRE is 0) (0x47)."
            ),
        ),
        (
            FRCD(FR=0x44, T=1, AT=1, F=1),
            (
                "A read of 00:00.0 at 0x0 (an ATS translation request) was refused: "
                "its context entry does not allow ATS (DTE is 0) (0x44)."
            ),
        ),
        (
            FRCD(FR=0x83, T=1, T2=1, AT=2, F=1),
            (
                "An atomic operation of 00:00.0 at 0x0 (with an address that ATS gave) was "
                "refused: an address that passes is wider than the host's (0x83)."
            ),
        ),
        (
            FRCD(FR=0x22, FI=0x2E << 48, F=1),
            ("An interrupt of 00:00.0, index 0x2e, was refused: the interrupt has no table entry (P is 0) (0x22)."),
        ),
        (FRCD(FR=0xEE, F=1), "A write of 00:00.0 at 0x0 was refused: no reason that the specification names (0xee)."),
    ],
)
def test_each_kind_of_request_is_told(record: FRCD, meaning: str) -> None:
    assert decode("event", record.encode()).meaning == meaning


def test_a_record_that_is_not_valid_says_so() -> None:
    told = decode("event", FRCD(FR=0xEE, AT=3).encode())

    assert told.name == "reason 0xee"
    assert told.complaints == (
        "FR 0xee is reserved", "AT 0x3 is reserved",
        "F is 0: software has cleared this record, or hardware has not yet set it",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "raw", "meaning"),
    [
        ("root-entry", words(0x1_438D_7001, 0), "The context table of this bus is at 0x1438d7000."),
        ("root-entry", words(0x1_438D_7000, 0), "Not present: nothing else in it counts."),
        (
            "scalable-root-entry",
            words(0x5001, 0x6000),
            "Context tables: devfn 0 to 127 at 0x5000, devfn 128 to 255 not present.",
        ),
        (
            "context-entry",
            words(0x1_44C1_0001, 0x902),
            "DMA of domain 9 goes through the 4-level second stage at 0x144c10000; ATS is refused.",
        ),
        (
            "context-entry",
            words(0xB, 0x102),
            "DMA of domain 1 goes untranslated (pass-through); faults are not recorded (FPD).",
        ),
        (
            "context-entry",
            words(0x2, 0),
            "Not present: nothing else in it counts but FPD, which keeps its faults unrecorded.",
        ),
        ("pasid-directory-entry", words(0x6001), "The table of these 64 PASIDs is at 0x6000."),
        (
            "pasid-entry",
            PasidTableEntry(P=1, PGTT=3, AW=2, DID=6, SSPTPTR=0x5000, FSPTPTR=0x7000, PWSNP=1).encode(),
            (
                "DMA of domain 6 goes through the 4-level first stage at 0x7000, "
                "nested on the 4-level second stage at 0x5000."
            ),
        ),
        ("pasid-entry", bytes(64), "Not present: nothing else in it counts."),
        ("irte", words(0x1_0000_0021_0001, 0x40108), "Interrupts of 01:01.0 become vector 0x21, to 0x10000."),
        ("pte-ss-l1", words(0x5003), "A page of 4 KiB at 0x5000: readable and writable."),
        ("pte-ss-l2", words(0x40_0081), "A page of 2 MiB at 0x400000: readable."),
        ("pte-ss-l4", words(0x5003), "The next table, at 0x5000: readable and writable."),
        ("pte-fs-l1", words(0x8000_0000_0000_5007), "A page of 4 KiB at 0x5000: writable, user, no execute."),
        ("pte-fs-l3", words(0x4000_0081), "A page of 1 GiB at 0x40000000: read-only, supervisor only."),
        ("pte-fs-l5", words(0), "Not present: nothing is mapped here."),
        (
            "page-request",
            PageRequestDescriptor(Type=1, RID=0x108, RD=1, WR=1, LPIG=1, PRGI=9, ADDR=0x5000).encode(),
            "01:01.0 asks for a page at 0x5000 to be read and written, in group 9, the last of it.",
        ),
        (
            "page-request",
            PageRequestDescriptor(Type=1, RID=0x108, PASIDP=1, PASID=7, LPIG=1).encode(),
            "01:01.0, PASID 0x7 has stopped asking for pages (a stop marker, which is not answered).",
        ),
        (
            "gsts",
            (0xC700_0000).to_bytes(4, "little"),
            "Global Status Register (0x1c): IRTPS, IRES, QIES, RTPS and TES.",
        ),
        ("fsts", (0x42).to_bytes(4, "little"), "Faults are recorded and a device did not answer an invalidation."),
        ("fsts", bytes(4), "No fault."),
        (
            "iqercd",
            IQERCD(IQEI=3).encode(),
            "The queue stopped for reason 3 (type) (as far as IQE, ITE and ICE are set in FSTS).",
        ),
        ("rtaddr", words(0x1_436A_E400), "Root Table Address Register (0x20): TTM scalable and RTA 0x1436ae000."),
        ("fectl", (1 << 31).to_bytes(4, "little"), "FECTL, IECTL and PECTL (0x38, 0xa0, 0xe0): IM."),
        ("pqa", bytes(8), "Page Request Queue Address Register (0xd0): all zero."),
    ],
)
def test_structures_and_registers_are_told_in_words(kind: str, raw: bytes, meaning: str) -> None:
    assert decode(kind, raw).meaning == meaning


@pytest.mark.parametrize(
    ("kind", "raw", "complaint"),
    [
        ("context-entry", ContextEntry(P=1, TT=3).encode(), "TT 0x3 is reserved"),
        ("context-entry", ContextEntry(P=1, AW=0).encode(), "AW 0 is no width"),
        (
            "scalable-context-entry",
            ScalableContextEntry(P=1, RID_PASID=1 << 13).encode(),
            "RID_PASID 0x2000 is not below 0x2000 (reason 0x48)",
        ),
        (
            "pasid-entry",
            PasidTableEntry(P=1, PGTT=1).encode(),
            "PWSNP is 0: accessed and dirty bits of first stage cannot be stored (reason 0x90)",
        ),
        ("pasid-entry", PasidTableEntry(P=1, PGTT=2).encode(), "AW 0 is no width (reason 0x5b)"),
        ("pasid-entry", PasidTableEntry(P=1, PGTT=7).encode(), "PGTT 0x7 is reserved"),
        ("irte", words(0x8001, 0), "IM is 1: this is a posted entry, whose other fields differ"),
        ("pte-ss-l4", words(0x5083), "reserved bits 7 are set"),
        ("page-request", bytes(32), "Type 0x0 is no page request"),
    ],
)
def test_what_is_wrong_with_a_structure_is_told(kind: str, raw: bytes, complaint: str) -> None:
    assert complaint in decode(kind, raw).complaints


@pytest.mark.parametrize("kind", ["context-entry", "pasid-entry", "pte-ss-l3", "pte-fs-l4", "root-entry"])
def test_nothing_is_wrong_with_what_is_not_present(kind: str) -> None:
    size = KINDS[kind][0]
    allowed = 0xFC if "ss" in kind else 0xFE

    assert decode(kind, bytes([allowed]) + b"\xff" * (size - 1)).complaints == ()


def test_every_register_has_a_kind() -> None:
    for name, layout in (REGISTERS | EVENT_REGISTERS).items():
        assert KINDS[name.lower()] == (layout.size,)


@given(st.data())
def test_any_bytes_of_any_kind_are_told_and_encode_to_themselves(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    length = data.draw(st.sampled_from(KINDS[kind]))
    raw = data.draw(st.binary(min_size=length, max_size=length))

    told = decode(kind, raw)

    assert told.descriptor.encode() == raw
    assert told.meaning.endswith(".")


def test_phrases() -> None:
    assert listed([]) == "nothing"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert bits_text(0b1011) == "3, 1:0"
    assert [size(lg2) for lg2 in (0, 12, 21, 30, 63)] == ["1 B", "4 KiB", "2 MiB", "1 GiB", "8 EiB"]
