"""What is said of bytes and of kernel log lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.decode import decode_log
from viommu.drivers import bind
from viommu_vtd.explain import KINDS, decode, recognise
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


NEW = "DMAR: [DMA Read NO_PASID] Request device [00:0d.2] fault addr 0x1026a4000 [fault reason 0x51] SM: Present bit"
PASID_LINES = "\n".join(
    f"DMAR: pasid table entry[{index}]: 0x{value:016x}" for index, value in enumerate([0x109, 1, 0, 0, 0, 0, 0, 0])
)


@pytest.mark.parametrize(
    ("line", "kind", "raw"),
    [
        (NEW, "event", FRCD(F=1, T=1, SID=0x6A, FI=0x1_026A_4000, FR=0x51).encode()),
        ("[    0.55] " + NEW, "event", FRCD(F=1, T=1, SID=0x6A, FI=0x1_026A_4000, FR=0x51).encode()),
        (
            "DMAR: [DMA Write PASID 0x45] Request device [ff:1f.7] fault addr 0x5123 [fault reason 0x59] x",
            "event",
            FRCD(F=1, SID=0xFFFF, FI=0x5000, FR=0x59, PP=1, PASID=0x45).encode(),
        ),
        (
            "DMAR: [DMA Write] Request device [02:00.0] PASID ffffffff fault addr 7fff000 [fault reason 05] x",
            "event",
            FRCD(F=1, SID=0x200, FI=0x7FF_F000, FR=5).encode(),
        ),
        (
            "DMAR:[DMA Write] Request device [02:00.0] fault addr 7fff000 [fault reason 12] non-zero",
            "event",
            FRCD(F=1, SID=0x200, FI=0x7FF_F000, FR=12).encode(),
        ),
        (
            "DMAR: [INTR-REMAP] Request device [f0:1f.0] fault index 0x8000 [fault reason 0x25] x",
            "event",
            FRCD(F=1, SID=0xF0F8, FI=0x8000 << 48, FR=0x25).encode(),
        ),
        (
            "DMAR: INTR-REMAP: Request device [[02:00.0] fault index 2e [fault reason 34] x",
            "event",
            FRCD(F=1, SID=0x200, FI=0x2E << 48, FR=0x22).encode(),
        ),
        ("DMAR: DRHD: handling fault status reg 3", "fsts", b"\x03\0\0\0"),
        ("DMAR: VT-d detected Invalidation Queue Error: Reason f", "iqercd", IQERCD(IQEI=15).encode()),
        ("DMAR: VT-d detected Invalidation Time-out Error: SID ffff", "iqercd", IQERCD(ITESID=0xFFFF).encode()),
        ("DMAR: VT-d detected Invalidation Completion Error: SID 108", "iqercd", IQERCD(ICESID=0x108).encode()),
        ("DMAR: QI HEAD: IOTLB Invalidation qw0 = 0x500f2, qw1 = 0x10004", "command", words(0x500F2, 0x10004)),
        ("DMAR: QI PRIOR: UNKNOWN qw0 = 0x0, qw1 = 0x0", "command", bytes(16)),
        ("DMAR: VT-d detected invalid descriptor: qw0 = 500f2, qw1 = 10004", "command", words(0x500F2, 0x10004)),
        ("DMAR: root entry: 0x00000000460d1001", "root-entry", words(0x460D_1001, 0)),
        (
            "DMAR: scalable mode root entry: hi 0x0000000102448001, low 0x0000000101b3e001",
            "scalable-root-entry",
            words(0x1_01B3_E001, 0x1_0244_8001),
        ),
        (
            "DMAR: context entry: hi 0x0000000000000008, low 0x00000010c4237001",
            "context-entry",
            words(0x10_C423_7001, 8),
        ),
        ("DMAR: pasid dir entry: 0x0000000101b4e001", "pasid-directory-entry", words(0x1_01B4_E001)),
        (PASID_LINES, "pasid-entry", words(0x109, 1, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_kernel_log_lines_are_recognised(line: str, kind: str, raw: bytes) -> None:
    assert recognise(line) == (kind, raw)
    assert decode(kind, raw).descriptor.encode() == raw


@pytest.mark.parametrize(
    "line",
    [
        "",
        "arm-smmu-v3 arm-smmu-v3.0: event 0x10 received:",
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:01.0 domain=0x1 address=0x0 flags=0x0]",
        "DMAR: Intel(R) Virtualization Technology for Directed I/O",
        "[DMA Read NO_PASID] Request device [00:0d.2] fault addr 0x1 [fault reason 0x51]",  # of nobody
        "DMAR: [DMA Read NO_PASID] Request device [00:0d.2] fault addr 0x1 [fault reason 0x151] x",
        "DMAR: DRHD: handling fault status reg 100000000",
        "DMAR: pasid table entry[0]: 0x0000000000000109",  # one of eight
        "DMAR: VT-d detected Invalidation Time-out Error: SID 10000",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    assert recognise(line) is None


@given(st.text(max_size=80))
def test_no_line_is_too_odd(line: str) -> None:
    recognise("DMAR: " + line)


def test_a_whole_dump_of_the_kernel_is_explained_event_by_event() -> None:
    dump = "\n".join(
        f"[    0.5{index}] {line}"
        for index, line in enumerate(
            [
                "DMAR: DRHD: handling fault status reg 3",
                NEW,
                "DMAR: Dump dmar1 table entries for IOVA 0x1026a4000",
                "DMAR: scalable mode root entry: hi 0x0000000102448001, low 0x0000000101b3e001",
                "DMAR: pasid dir entry: 0x0000000101b4e001",
                *PASID_LINES.splitlines(),
                "DMAR: PTE not present at level 4",
            ]
        )
    )

    told = decode_log([bind("vtd")], dump)

    assert [one.decoded.kind for one in told] == [
        "fsts", "event", "scalable-root-entry", "pasid-directory-entry", "pasid-entry",
    ]  # fmt: skip
    assert told[-1].decoded.meaning == "DMA of domain 1 goes untranslated."


def test_phrases() -> None:
    assert listed([]) == "nothing"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert bits_text(0b1011) == "3, 1:0"
    assert [size(lg2) for lg2 in (0, 12, 21, 30, 63)] == ["1 B", "4 KiB", "2 MiB", "1 GiB", "8 EiB"]
