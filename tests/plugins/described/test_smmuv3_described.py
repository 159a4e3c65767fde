"""SMMU commands by their description in the engine, beside plain arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.described import plain_smmuv3 as plain
from tests.plugins.described.warm import PAGES, Warm, Written
from viommu_smmuv3_cmdqv.spec.command_meanings import CommandAbilities, meanings
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS, CommandOpcode

EL2, E2H = 1 << 16, 2 << 16
SPACES: list[tuple[int, int | None]] = [
    (0, 7),
    (0, 0x107),
    (5, 7),
    (6, 0x108),
    (5, None),
    (0x105, 9),
    (EL2, 0),
    (E2H, 7),
]

ABLE = CommandAbilities(
    stage1=True,
    stage2=True,
    el2=True,
    wide_vmids=True,
    wide_asids=True,
    ranges=True,
    wildcard_lg2=0,
    el2_tags=(EL2, E2H),
)

bits = st.booleans()
abilities = st.builds(
    CommandAbilities,
    stage1=st.sampled_from([True, True, True, False]),
    stage2=bits,
    el2=bits,
    wide_vmids=bits,
    wide_asids=bits,
    ranges=bits,
    wildcard_lg2=st.integers(0, 4),
    el2_tags=st.just((EL2, E2H)),
)
ODDITIES = {
    "SSec": st.sampled_from([0] * 30 + [1]),
    "SID": st.integers(0, 9) | st.integers(0, (1 << 32) - 1),
    "SSID": st.sampled_from([0, 0, 7]),
    "VMID": st.sampled_from([0, 4, 5, 6, 0x105]),
    "ASID": st.sampled_from([7, 9, 0x107, 0x108]),
    "Address": st.sampled_from([*PAGES, *(page | 0xAB << 56 for page in PAGES), 0, (1 << 64) - 0x1000]),
    "NUM": st.sampled_from([0, 1, 15, 31]),
    "SCALE": st.sampled_from([0, 1, 9, 31]),
    "Range": st.sampled_from([0, 1, 2, 7, 8, 31]),
    "TG": st.sampled_from([0, 0, 1, 2, 3]),
}
DESCRIBED = sorted(set(plain.ALWAYS | plain.STAGE1 | plain.STAGE2 | plain.EL2))


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    opcode = CommandOpcode(draw(st.sampled_from(DESCRIBED)))
    layout = COMMANDS[opcode]
    values = {name: draw(ODDITIES[name]) & spec.maximum for name, spec in layout.fields.items() if name in ODDITIES}
    leaf = {"Leaf": draw(st.integers(0, 1))} if "Leaf" in layout.fields else {}
    return layout(Opcode=opcode, **values, **leaf).encode()


runs = st.lists(st.one_of(*[commands()] * 15, st.binary(min_size=16, max_size=16)), max_size=10)


@settings(max_examples=600)
@given(able=abilities, command=commands())
def test_descriptions_say_what_commands_do(able: CommandAbilities, command: bytes) -> None:
    described, plainly = Written(), Written()
    name = plain.execute(command, able, plainly.caches)

    found = described.executor(meanings(able)).run(command)

    assert found == ((0, {}) if name is None else (1, {name: 1}))
    assert described.calls == plainly.calls


@given(able=abilities, run=runs)
def test_the_engine_does_what_commands_say(able: CommandAbilities, run: list[bytes]) -> None:
    described, plainly = Warm(SPACES), Warm(SPACES)
    names: list[str] = []
    for raw in run:
        name = plain.execute(raw, able, plainly.caches)
        if name is None:
            break
        names.append(name)

    found = described.executor(meanings(able)).run(b"".join(run))

    assert found == (len(names), {name: names.count(name) for name in names})
    assert described.state() == plainly.state()


@pytest.mark.parametrize("opcode", CommandOpcode)
def test_a_command_of_another_security_state_is_not_described(opcode: CommandOpcode) -> None:
    able = CommandAbilities(
        stage1=True,
        stage2=True,
        el2=True,
        wide_vmids=True,
        wide_asids=True,
        ranges=True,
        wildcard_lg2=0,
        el2_tags=(1, 2),
    )
    found = Warm([]).executor(meanings(able)).run(COMMANDS[opcode](Opcode=opcode, SSec=1).encode())

    assert found == (0, {})
