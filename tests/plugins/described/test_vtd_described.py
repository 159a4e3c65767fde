"""VT-d descriptors by their description in the engine, beside plain arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.described.plain_vtd import Plain
from tests.plugins.described.warm import MAILBOX, PAGES, Warm, Written
from viommu.commands import CommandTable
from viommu_vtd.spec.command_meanings import ANY, CommandAbilities, CommandTables, meanings
from viommu_vtd.spec.commands import COMMANDS, InvalidationType

if TYPE_CHECKING:
    from viommu.commands import Executor

SPACES: list[tuple[int, int | None]] = [(5, 7), (5, 8), (6, 7), (5, None), (6, None)]
DESCRIBED = [
    InvalidationType.CONTEXT_CACHE,
    InvalidationType.IOTLB,
    InvalidationType.WAIT,
    InvalidationType.PASID_IOTLB,
]
NESTED = {5, 9}

bits = st.booleans()
abilities = st.builds(
    CommandAbilities, wide=bits, scalable=bits, psi=bits, mamv=st.sampled_from([0, 9, 18, 63]), pds=bits
)
VALUES = {
    "G": st.integers(0, 3),
    "DID": st.sampled_from([5, 6, 9, 0xFFFF]),
    "SID": st.integers(0, 9) | st.just(0xFFFF),
    "FM": st.integers(0, 3),
    "AM": st.sampled_from([0, 1, 4, 9, 18, 40, 52, 63]),
    "PASID": st.sampled_from([7, 8, 0xF_FFFF]),
    "ADDR": st.sampled_from([*PAGES, 0, (1 << 64) - 0x1000]),
    "IF": st.sampled_from([0, 0, 0, 1]),
    "PD": st.sampled_from([0, 0, 1]),
    "STADDR": st.sampled_from([MAILBOX, MAILBOX + 8, MAILBOX + 0xFFC, 0x7000_0000]),
    "STDATA": st.integers(0, (1 << 32) - 1),
}


@st.composite
def descriptors(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(DESCRIBED))
    layout = COMMANDS[kind]
    chosen = {name: draw(VALUES.get(name, st.integers(0, 1))) for name in layout.fields if name != "Type"}
    raw = int(layout(Type=kind, **chosen))
    if draw(st.integers(0, 12)) == 12:
        raw ^= 1 << draw(st.integers(0, 255))
    return raw.to_bytes(32, "little")


any_descriptor = st.one_of(*[descriptors()] * 15, st.binary(min_size=32, max_size=32))
runs = st.lists(any_descriptor, max_size=10)


def executor(on: Warm | Written, able: CommandAbilities, *, unanswered: bool) -> Executor:
    tables = CommandTables(CommandTable(), CommandTable())
    for domain in NESTED:
        tables.nested.add(domain, domain)
    if unanswered:
        tables.unanswered.add(ANY, 0x108)
    return on.executor(meanings(able, tables))


def cut(raw: bytes, able: CommandAbilities) -> bytes:
    return raw if able.wide else raw[:16]


@settings(max_examples=600)
@given(able=abilities, raw=any_descriptor, unanswered=bits)
def test_descriptions_say_what_descriptors_do(able: CommandAbilities, raw: bytes, unanswered: bool) -> None:
    described, plainly = Written(), Written()
    raw = cut(raw, able)
    name = Plain(able, plainly.caches, plainly.memory, NESTED, unanswered).execute(raw)

    found = executor(described, able, unanswered=unanswered).run(raw)

    assert found == ((0, {}) if name is None else (1, {name: 1}))
    assert described.calls == plainly.calls
    assert described.memory.read(MAILBOX, 4096) == plainly.memory.read(MAILBOX, 4096)


@given(able=abilities, run=runs)
def test_the_engine_does_what_descriptors_say(able: CommandAbilities, run: list[bytes]) -> None:
    described, plainly = Warm(SPACES), Warm(SPACES)
    run = [cut(raw, able) for raw in run]
    plain = Plain(able, plainly.caches, plainly.memory, NESTED)
    names: list[str] = []
    for raw in run:
        name = plain.execute(raw)
        if name is None:
            break
        names.append(name)

    found = executor(described, able, unanswered=False).run(b"".join(run))

    assert found == (len(names), {name: names.count(name) for name in names})
    assert described.state() == plainly.state()
