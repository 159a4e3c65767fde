"""No bytes in memory make the model raise: what tables do wrong is a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viommu.faults import Access, Fault
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from plugins.amd_viommu.tests.conftest import Amd

RAM = 0x1000_0000
WORDS = st.integers(0, (1 << 64) - 1)
NEAR = st.integers(0, 0x3F).map(lambda page: RAM + 0x5_0000 + (page << 12))
ENTRIES = st.builds(
    lambda mode, host, gcr3, rest: DTE.decode(rest & ~DTE.reserved_mask | 3).replace(
        Mode=mode, HostPageTableRoot=host, GCR3=gcr3
    ),
    st.integers(0, 7),
    NEAR,
    NEAR,
    st.integers(0, (1 << 256) - 1),
)
TABLE_WORDS = st.builds(
    lambda address, level, low, rights: address | level << 9 | low | rights << 61,
    NEAR,
    st.integers(0, 7),
    st.sampled_from([0, 1, 7]),
    st.integers(0, 7),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entry=ENTRIES,
    table=st.lists(st.one_of(TABLE_WORDS, WORDS), min_size=1, max_size=8),
    pasid=st.none() | st.integers(0, (1 << 20) - 1),
    iova=WORDS,
    access=st.sampled_from([Access.READ, Access.WRITE, Access.EXECUTE | Access.PRIVILEGED]),
    trp=st.integers(0, 1),
)
def test_any_entry_and_any_tables_give_a_translation_or_a_fault_with_a_report(
    amd: Amd, entry: DTE, table: list[int], pasid: int | None, iova: int, access: Access, trp: int
) -> None:
    amd.control["GCR3TRPMode"] = trp
    amd.device(**{name: int(getattr(entry, name)) for name in DTE.fields})
    page = b"".join(table[n % len(table)].to_bytes(8, "little") for n in range(512))
    for number in range(0x40):
        amd.memory.write(RAM + 0x5_0000 + (number << 12), page)

    outcome = amd.translate(iova, access, pasid)

    if isinstance(outcome, Fault):
        report = amd.hardware.report(outcome)
        assert report.record is None or len(report.record) == 16
