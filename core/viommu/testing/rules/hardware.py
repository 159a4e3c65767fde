"""HWD: silicon of one instance, as it comes from the factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from viommu.errors import BadRegister
from viommu.faults import Fault
from viommu.hardware import Silence
from viommu.testing.rule import Need, expect, rule
from viommu.testing.worlds import host

if TYPE_CHECKING:
    from viommu.testing.subject import Subject

Writes = list[tuple[int, int, int]]


def _writes(subject: Subject) -> st.SearchStrategy[Writes]:  # noqa: ARG001
    offset = st.one_of(st.integers(0, 0x800).map(lambda word: word * 4), st.integers(0, (1 << 40) - 1))
    value = st.one_of(
        st.integers(0, (1 << 64) - 1), st.integers(0, 63).map(lambda bit: 1 << bit), st.just((1 << 64) - 1)
    )
    return st.lists(st.tuples(offset, st.sampled_from([4, 8]), value), min_size=1, max_size=24)


@rule(
    "HWD-001",
    "Hardware that nobody has programmed answers every access and every register write, and raises nothing.",
    source="LiveHardware: no register value, index or byte in memory may raise, hang or grow memory without bound",
    needs=(Need.LIVE,),
    plan=_writes,
    examples=60,
)
def fresh_hardware_survives(subject: Subject, plan: Writes) -> None:
    """Write registers, read them, and send an access after each."""
    with subject.machine() as machine:
        for offset, size, value in plan:
            machine.write_register(offset, value & (1 << 8 * size) - 1, size)
            found = machine.read_register(offset, size)
            expect(0 <= found < 1 << 8 * size, f"register {offset:#x} of {size} bytes reads as {found:#x}")
            outcome = machine.translate(subject.requesters[0], 0x1000)
            if isinstance(outcome, Fault):
                machine.report(outcome)


@rule(
    "HWD-002",
    "Two instances have nothing in common: what one is told, the other does not know.",
    source="viommu_hardware, Owes: a model that keeps no state outside itself",
    needs=(Need.LIVE,),
    plan=_writes,
    examples=20,
)
def instances_are_apart(subject: Subject, plan: Writes) -> None:
    """Compare registers of one that is left alone, before and after another was written to."""
    with subject.machine() as alone, subject.machine() as other:
        offsets = sorted({offset & -4 for offset, _, _ in plan} | set(range(0, 0x200, 4)))
        before = [alone.read_register(offset) for offset in offsets]
        for offset, size, value in plan:
            other.write_register(offset, value & (1 << 8 * size) - 1, size)
        after = [alone.read_register(offset) for offset in offsets]
        changed = [hex(offset) for offset, a, b in zip(offsets, before, after, strict=True) if a != b]
        expect(not changed, f"registers {', '.join(changed)} of an instance that nobody wrote to have changed")


def _values(subject: Subject) -> st.SearchStrategy[dict[str, int]]:
    names = sorted(name for name, kind in subject.driver.layouts().items() if kind.width in {32, 64})
    if not names:
        return st.just({})
    return st.dictionaries(st.sampled_from(names), st.integers(0, (1 << 32) - 1), max_size=8)


@rule(
    "HWD-003",
    "Whatever values registers have at first, hardware is made, or they are refused as BadRegister.",
    source="viommu_hardware, Raises",
    plan=_values,
    examples=60,
)
def any_registers_are_judged(subject: Subject, plan: dict[str, int]) -> None:
    """Give registers at random, and use what comes of them."""
    try:
        machine = subject.machine(registers=plan)
    except BadRegister:
        return
    outcome = machine.translate(subject.requesters[0], 0x1000)
    if isinstance(outcome, Fault):
        machine.report(outcome)


@rule(
    "HWD-004",
    "What governs a requester is decoded anew each time, to the same answer, and nothing is stored.",
    source="HardwareModel.configure: stores nothing, the answer is decoded anew at each call",
    needs=(Need.HOST,),
)
def configuration_is_read_only(subject: Subject) -> None:
    """Ask for devices with and without something attached, and look at all that the host has written."""
    with host(subject) as world:
        device = world.device()
        device.attach(world.iommu.ioas_alloc().hwpt_alloc(device))
        frames, memory = world.machine.host().port.frames, world.machine.memory
        before = [memory.read(pa, length) for pa, length in frames.stretches()]
        for requester in subject.requesters:
            told = [repr(world.machine.hardware.configure(requester, None, Silence())) for _ in range(3)]
            stripped = {_without_addresses(one) for one in told}
            expect(
                len(stripped) == 1, f"requester {requester:#x} is configured in different ways", told="\n".join(told)
            )
        after = [memory.read(pa, length) for pa, length in frames.stretches()]
        expect(after == before, "configuring has changed memory")


def _without_addresses(text: str) -> str:
    """An object's own address, which Python prints, is none of the answer."""
    return text.split(" at 0x", maxsplit=1)[0] if " object at 0x" in text else text
