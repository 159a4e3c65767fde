"""No register value and no bytes in a queue make the model raise or hang; what it then holds is defined."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.amd_viommu.tests.programmed import COMMANDS, DEVICE, RAM, Programmed
from viommu import Access
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.commands import COMMANDS as LAYOUTS
from viommu_amd_viommu.spec.commands import Opcode, decode_command

WORDS = st.integers(0, (1 << 64) - 1)
NAMES = st.sampled_from(sorted(REGISTERS))
OFFSETS = st.one_of(NAMES.map(lambda name: REGISTERS[name].offset), st.integers(0, 0x4100))
PLAUSIBLE = st.one_of(
    WORDS,
    st.sampled_from([0xF, 0x1000, 0x1_F0FF, RAM | 8 << 56, RAM | 0x1FF]),
    st.integers(0, 63).map(lambda bit: 1 << bit),
)
STORES = st.tuples(st.just("store"), OFFSETS, st.sampled_from([1, 2, 4, 8]), PLAUSIBLE)
REQUESTS = st.tuples(st.just("request"), st.integers(0, 0xFFFF), st.integers(0, 0x1FF), WORDS)
ACCESSES = st.tuples(st.just("access"), st.integers(0, 0xFFFF), st.integers(0, 1), WORDS)


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """Often one that decodes; any bits otherwise."""
    raw = draw(st.integers(0, (1 << 128) - 1))
    opcode = draw(st.one_of(st.none(), st.sampled_from(Opcode)))
    if opcode is None:
        return raw.to_bytes(16, "little")
    layout = LAYOUTS[opcode]
    reserved = 0 if draw(st.integers(0, 7)) == 0 else layout.reserved_mask
    return int(layout.decode(raw & ~reserved).replace(Opcode=opcode)).to_bytes(16, "little")


@given(steps=st.lists(st.one_of(STORES, REQUESTS, ACCESSES), max_size=12), started=st.booleans())
def test_any_stores_to_registers_leave_a_defined_state(steps: list[tuple[str, int, int, int]], started: bool) -> None:
    machine = Programmed()
    if started:
        machine.start()
        machine.device(PPR=1)

    for step, first, second, value in steps:
        if step == "store":
            machine.machine.hardware.write(first, second, value)  # of any size, which a machine refuses
        elif step == "request":
            machine.machine.device(first).request_page(value, Access.READ, group=second)
        else:
            machine.machine.translate(first, value, Access.WRITE if second else Access.READ)

    for name, register in REGISTERS.items():
        assert 0 <= machine.read(name) <= register.mask
    for queue in ("CMD", "EVT", "PPR", "EVTB", "PPRB"):
        assert machine.read(f"{queue}TAIL") & ~0x7_FFF0 == 0


@given(st.lists(commands(), min_size=1, max_size=24), st.booleans())
def test_any_commands_are_executed_up_to_the_first_that_is_refused(raw: list[bytes], answers: bool) -> None:
    machine = Programmed().start()
    machine.machine.device(DEVICE).answers = answers

    machine.submit(*raw)

    head = machine.read("CMDHEAD") // 16
    refused = [event for event in machine.events() if event.EventCode in (5, 6)]
    if machine.status.CmdBufRun:
        assert (head, refused) == (len(raw), [])
    else:
        assert len(refused) == 1
        assert refused[0].EventCode == 6 or int(refused[0]) >> 64 == COMMANDS + head * 16
        assert int(decode_command(raw[head])) == int.from_bytes(raw[head], "little")


@given(head=WORDS, tail=WORDS, length=st.integers(0, 15))
def test_any_pointers_end(head: int, tail: int, length: int) -> None:
    machine = Programmed(length).start()

    machine.write("CMDHEAD", head)
    machine.write("CMDTAIL", tail)

    assert machine.status.CmdBufRun == (
        (machine.read("CMDHEAD") ^ machine.read("CMDTAIL")) % (16 << max(length, 8)) == 0
    )
