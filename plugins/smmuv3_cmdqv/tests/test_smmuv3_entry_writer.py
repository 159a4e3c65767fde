"""Hardware may read an entry between any two stores: it must find the old one, the new one, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from viommu import PhysicalMemory
from viommu_smmuv3_cmdqv.host import entries
from viommu_smmuv3_cmdqv.host.abilities import Abilities
from viommu_smmuv3_cmdqv.host.entries import Stage2, Stream
from viommu_smmuv3_cmdqv.host.entry_writer import write_cd, write_ste
from viommu_smmuv3_cmdqv.identity import WHOLE_MODEL
from viommu_smmuv3_cmdqv.spec import LAYOUTS
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE, ContextTableFormat, DefaultSubstream, StreamConfig

if TYPE_CHECKING:
    from viommu.layout import Descriptor

ABLE = Abilities(
    *(
        LAYOUTS[name].decode(WHOLE_MODEL.get(name, 0))  # type: ignore[arg-type]
        for name in ("IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR")
    )
)


@define
class Table:
    """Stands for a CD table."""

    address: int
    lg2: int = 4
    format: ContextTableFormat = ContextTableFormat.LINEAR


@define
class Witness:
    """Looks at an entry after each store, as hardware might, and takes note of what it means."""

    layout: type[Descriptor]
    memory: PhysicalMemory = field(factory=PhysicalMemory)
    address: int = 0
    seen: list[object] = field(factory=list)
    stores: int = 0
    unsynced: int = 0

    def __attrs_post_init__(self) -> None:
        self.address = self.memory.add_ram(4096).pa()
        self.memory.watcher = self._stored

    def _stored(self, *_: int) -> None:
        self.stores += 1
        self.seen.append(meaning(self.entry))

    def sync(self) -> None:
        self.unsynced += 1

    @property
    def entry(self) -> Descriptor:
        raw = self.memory.read(self.address, 64)
        assert raw is not None
        return self.layout.decode(raw)

    def change(self, target: Descriptor) -> None:
        write = write_ste if self.layout is STE else write_cd
        write(self.memory, self.address, target, self.sync)  # type: ignore[arg-type]


def meaning(entry: Descriptor) -> object:
    """What hardware would do with an entry: an oracle of its own, from the fields that each Config uses (5.2)."""
    if isinstance(entry, CD):
        return tuple(getattr(entry, name) for name in CD.fields) if entry.V else "invalid"
    assert isinstance(entry, STE)
    if not entry.V:
        return "invalid"
    found: dict[str, int] = {"Config": entry.Config}
    if entry.Config >= StreamConfig.BYPASS and entry.Config & 1:
        names = ("S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "STRW", "S2VMID")
        found |= {name: getattr(entry, name) for name in names}
    if entry.Config >= StreamConfig.BYPASS and entry.Config & 2:
        found |= {name: getattr(entry, name) for name in STE.fields if name.startswith("S2") and "HWU" not in name}
    return tuple(found.items())


def stes() -> list[STE]:
    plain, other = Stream(ABLE), Stream(ABLE, ats=True)
    stage2 = Stage2(0x8000_0000, 3, 48, 0, 12)
    guest = STE(V=1, Config=StreamConfig.STAGE1, S1ContextPtr=0x4000_0000, S1CIR=1, S1COR=1, S1CSH=3)
    return [
        STE(),
        entries.ABORTS,
        entries.bypass(plain),
        entries.stage1(plain, Table(0x1000_0000), DefaultSubstream.SUBSTREAM_0),  # type: ignore[arg-type]
        entries.stage1(other, Table(0x1000_0000), DefaultSubstream.SUBSTREAM_0),  # type: ignore[arg-type]
        entries.stage1(plain, Table(0x1000_0000), DefaultSubstream.TERMINATE),  # type: ignore[arg-type]
        entries.stage1(plain, Table(0x2000_0000), DefaultSubstream.BYPASS_STAGE1),  # type: ignore[arg-type]
        entries.stage2(plain, stage2),
        entries.stage2(other, Stage2(0x9000_0000, 4, 48, 0, 12)),
        entries.nested(plain, stage2, guest),
        entries.nested(plain, stage2, guest.replace(S1ContextPtr=0x5000_0000, S1DSS=2)),
        entries.nested(plain, Stage2(0x9000_0000, 4, 48, 0, 12), guest),
    ]


@given(st.lists(st.sampled_from(stes()), min_size=2, max_size=6))
def test_no_store_shows_hardware_half_an_ste(history: list[STE]) -> None:
    witness = Witness(STE)
    for target in history:
        before, witness.seen = meaning(witness.entry), []
        witness.change(target)
        assert witness.entry == target
        assert set(witness.seen) <= {before, meaning(target), "invalid"}
        assert witness.unsynced or not witness.stores


ABORT, BYPASS, STAGE1, STAGE1_ATS, STAGE1_ALONE, STAGE2, NESTED, NESTED_ELSEWHERE = 1, 2, 3, 4, 5, 7, 9, 10


@pytest.mark.parametrize(
    ("old", "new", "hitless"),
    [
        (ABORT, BYPASS, True),
        (ABORT, STAGE1, True),
        (STAGE1, ABORT, True),
        (STAGE1, BYPASS, True),
        (STAGE1, STAGE1_ATS, True),
        (STAGE1, STAGE1_ALONE, True),
        (STAGE1_ALONE, STAGE1, True),
        (STAGE1, STAGE2, False),
        (STAGE2, STAGE1, False),
        (BYPASS, STAGE2, True),
        (STAGE2, NESTED, True),
        (NESTED, STAGE2, True),
        (ABORT, NESTED, True),
        (NESTED, NESTED_ELSEWHERE, False),  # the CD table in one word, S1DSS in the next
    ],
)
def test_a_change_of_one_word_leaves_no_moment_without_an_entry(old: int, new: int, hitless: bool) -> None:
    witness = Witness(STE)
    witness.change(stes()[old])
    witness.seen = []
    witness.change(stes()[new])
    assert ("invalid" not in witness.seen) == hitless


@given(st.lists(st.builds(CD, V=st.integers(0, 1), ASID=st.integers(0, 3), TTB0=st.sampled_from([0, 1 << 20]))))
def test_no_store_shows_hardware_half_a_cd(history: list[CD]) -> None:
    witness = Witness(CD)
    for target in history:
        before, witness.seen = meaning(witness.entry), []
        witness.change(target)
        assert witness.entry == target
        assert set(witness.seen) <= {before, meaning(target), "invalid"}


def test_every_store_is_followed_by_a_sync_before_another_word_counts() -> None:
    witness = Witness(STE)
    witness.change(stes()[3])
    before, syncs = witness.stores, witness.unsynced
    witness.change(stes()[7])
    assert witness.stores > before
    assert witness.unsynced >= syncs + 2
