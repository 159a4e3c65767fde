"""After edits that software invalidates enough, what is cached is what a fresh walk says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.smmuv3_cmdqv.tests.guest import STAGE1_CD, USER_PAGE
from plugins.smmuv3_cmdqv.tests.programmed import PAGE, STREAM, TARGET, Programmed
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode

PAGES = 16
ENOUGH = (
    CommandOpcode.TLBI_NH_VA, CommandOpcode.TLBI_NH_VAA, CommandOpcode.TLBI_NH_ASID, CommandOpcode.TLBI_NH_ALL,
    CommandOpcode.TLBI_S12_VMALL, CommandOpcode.TLBI_NSNH_ALL,
)  # fmt: skip
"""Each of these covers a page of our address space, given all its fields."""

EDITS = st.lists(
    st.tuples(st.integers(0, PAGES - 1), st.none() | st.integers(0, 7), st.sampled_from(ENOUGH), st.booleans()),
    min_size=1,
    max_size=20,
)


@settings(max_examples=150)
@given(EDITS, st.data())
def test_what_is_cached_agrees_with_the_tables(
    edits: list[tuple[int, int | None, CommandOpcode, bool]], data: st.DataObject
) -> None:
    smmu = Programmed()
    root = smmu.address_space()
    mapped: dict[int, int] = {}
    for page, target, opcode, ranged in edits:
        entry = smmu.page(root, page * PAGE)
        smmu.put(entry, 0 if target is None else TARGET + target * PAGE | USER_PAGE)
        mapped.pop(page, None)
        if target is not None:
            mapped[page] = TARGET + target * PAGE
        fields = {"ASID": STAGE1_CD["ASID"], "Address": page * PAGE, "VMID": 0}
        if ranged:
            fields |= {"TG": 1, "SCALE": data.draw(st.integers(0, 3)), "NUM": data.draw(st.integers(0, 3)), "TTL": 3}
        layout = COMMANDS[opcode]
        known = {name: value for name, value in fields.items() if name in layout.fields}
        smmu.send(layout(Opcode=opcode, **known))

        found = {n: getattr(smmu.machine.translate(STREAM, n * PAGE), "pa", None) for n in range(PAGES)}

        assert {n: pa for n, pa in found.items() if pa is not None} == mapped
        smmu.events()
