"""What is recognised of the kernel's log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.decoding.decode import decode_log
from viommu.drivers import bind
from viommu_vtd.explain import decode, recognise
from viommu_vtd.spec.faults import FRCD
from viommu_vtd.spec.queue_registers import IQERCD


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


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
