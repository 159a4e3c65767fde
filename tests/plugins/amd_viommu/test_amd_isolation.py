"""Hostile guests: whatever they write, nothing of another guest's moves, is forgotten, or is told to it."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.plugins.amd_viommu.guest import BASE, GUEST_SIZE
from tests.plugins.amd_viommu.program import HARDWARE, PAGE, Program
from tests.plugins.amd_viommu.vm import IOVA, QUEUE_BYTES, RUNNING, VID, Vm, queue_command
from viommu import Iotlb
from viommu.faults import Access
from viommu.iommufd import uapi
from viommu_amd_viommu.host.extensions import TYPE, QueueType
from viommu_amd_viommu.spec.commands import COMMANDS, Opcode
from viommu_amd_viommu.spec.registers import Control

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

REGISTERS = (0x00, 0x08, 0x10, 0x18, 0x20, 0x30, 0x38, 0x50, 0x58, 0x70, 0x78, 0x80, 0x88, 0x90)
OF_HOSTS = (Opcode.INSERT_GUEST_EVENT, Opcode.RESET_VMMIO)
FIRST = 0x0100
LONG_SECONDS = float(os.environ.get("VIOMMU_LONG_SECONDS", "600"))


@define(eq=False)
class Victim:
    """A guest that only looks on. Its tables have changed, its IOTLB has not been told, and must not be by others."""

    vm: Vm
    memory: bytes = field(init=False)
    registers: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        vm = self.vm
        assert vm.endpoint.ats is not None
        for pasid in (None, 5):
            assert vm.look(pasid) == b"old"
        vm.endpoint.ats.translate(IOVA)
        vm.guest.map(IOVA, b"new")
        vm.guest.map(IOVA, b"new", pasid=5)
        self.memory = bytes(vm.guest.memory.pages)
        self.registers = [vm.load(offset) for offset in REGISTERS]

    def check(self) -> None:
        vm = self.vm
        assert vm.endpoint.ats is not None
        assert vm.look() == vm.look(5) == b"old"
        assert len(vm.endpoint.ats.tlb) == 1
        assert not vm.endpoint.ats.responses
        assert [vm.load(offset) for offset in REGISTERS] == self.registers
        assert bytes(vm.guest.memory.pages) == self.memory


@define(eq=False)
class Attacker:
    """A guest, and its VMM, that try everything."""

    vm: Vm
    chance: random.Random

    def command(self) -> bytes:
        """Often a command with random ids and addresses; sometimes mere noise."""
        chance = self.chance
        noise = chance.randbytes(16)
        if chance.random() < 0.02:
            return noise
        opcodes = list(COMMANDS) if chance.random() < 0.05 else [code for code in COMMANDS if code not in OF_HOSTS]
        layout = COMMANDS[chance.choice(opcodes)]
        command = layout.decode(noise)
        kept = int(command) & ~layout.reserved_mask
        made = layout.decode(kept)
        fields: dict[str, int] = {"Opcode": next(code for code, one in COMMANDS.items() if one is layout)}
        if "DeviceID" in layout.fields:
            others = [FIRST, FIRST + 8, FIRST + 16, chance.randrange(1 << 16)]
            fields["DeviceID"] = chance.choice(others) if chance.random() < 0.05 else VID
        if "DomainID" in layout.fields:
            fields["DomainID"] = chance.choice([1, chance.randrange(1, 64), chance.randrange(1 << 16)])
        if "GuestID" in layout.fields:
            fields["GuestID"] = chance.randrange(8)
        if layout.__name__ == "CompletionWait":
            anywhere = chance.getrandbits(52) if chance.random() < 0.05 else BASE + chance.randrange(GUEST_SIZE)
            fields["Address"] = anywhere & ~7
        return made.replace(**fields).encode()

    def fill_and_ring(self) -> None:
        """Commands, and a tail that is right or not."""
        vm, chance = self.vm, self.chance
        if chance.random() < 0.7:
            self.mend()
        base = vm.bases[QueueType.COMMANDS]
        if BASE <= base < BASE + GUEST_SIZE - QUEUE_BYTES:
            head = vm.load(0x00) % QUEUE_BYTES
            data = b"".join(self.command() for _ in range(chance.randrange(1, 24)))[: QUEUE_BYTES - 16 - head]
            vm.guest.write(base + head, data)
            vm.store(0x08, head + len(data))
        if chance.random() < 0.1:
            vm.store(0x08, chance.getrandbits(64))

    def mend(self) -> None:
        """What halted the buffer is passed over, so that it runs again; it may be put where there is memory."""
        vm = self.vm
        if not BASE <= vm.bases[QueueType.COMMANDS] < BASE + GUEST_SIZE - QUEUE_BYTES:
            vm.program.must(uapi.Destroy.of(id=vm.queue_ids[QueueType.COMMANDS]))
            vm.bases[QueueType.COMMANDS] = BASE + GUEST_SIZE - 4 * PAGE
            made = vm.program.must(queue_command(vm.viommu, QueueType.COMMANDS, vm.bases[QueueType.COMMANDS]))
            vm.queue_ids[QueueType.COMMANDS] = made.out_hw_queue_id
        vm.switch(Control())
        vm.store(0x00, 0)
        vm.store(0x08, 0)
        vm.switch(RUNNING)

    def poke(self) -> None:
        """A store into the VF page."""
        offset = self.chance.choice([*REGISTERS, self.chance.randrange(PAGE - 8)])
        self.vm.page.write(offset, self.chance.randbytes(self.chance.choice([1, 2, 4, 8])))

    def switch(self) -> None:
        """The VMM passes on what the guest has written into Control."""
        self.vm.switch(self.chance.choice([RUNNING, RUNNING, Control(), Control.decode(self.chance.getrandbits(64))]))

    def move_queue(self) -> None:
        """A queue somewhere else, often where there is no memory, or where tables are."""
        vm, chance = self.vm, self.chance
        kind = chance.choice(list(QueueType))
        vm.program.call(uapi.Destroy.of(id=vm.queue_ids[kind]))
        base = chance.choice([BASE + chance.randrange(GUEST_SIZE), chance.getrandbits(52), 0xFEE0_0000]) & -PAGE
        vm.bases[kind] = base
        vm.queue_ids[kind] = vm.program.must(queue_command(vm.viommu, kind, base)).out_hw_queue_id

    def batch(self) -> None:
        """The same by an ioctl."""
        raw = [self.command() for _ in range(self.chance.randrange(1, 16))]
        self.vm.program.call(self.vm.program.invalidate_command(self.vm.viommu, *raw, data_type=TYPE, length=16))

    def scribble(self) -> None:
        """Its own tables and logs, overwritten with noise."""
        at = self.chance.randrange(GUEST_SIZE - 64)
        self.vm.guest.write(BASE + at, self.chance.randbytes(64))

    def renest(self) -> None:
        """Another device table entry: other GCR3 tables, wherever they may lie, and another DomainID."""
        vm, chance = self.vm, self.chance
        anywhere = chance.choice([vm.guest.gcr3, BASE + chance.randrange(GUEST_SIZE), chance.getrandbits(52)])
        entry = vm.guest.dte(
            GCR3=anywhere & -PAGE,
            DomainID=chance.choice([1, chance.randrange(1 << 16)]),
            GLX=chance.randrange(3),
            GIOV=chance.randrange(2),
            PPR=chance.randrange(2),
            GuestPagingMode=chance.randrange(2),
        )
        made = vm.program.call(vm.program.nested_command(vm.device, vm.viommu, entry)).out_hwpt_id
        if vm.program.result == 0:
            vm.device.replace(made)
            vm.program.must(uapi.Destroy.of(id=vm.hwpt))
            vm.hwpt = made

    def access(self) -> None:
        """DMA, and a page request, of its own device."""
        vm, chance = self.vm, self.chance
        assert vm.endpoint.ats is not None
        pasid = chance.choice([None, 5, chance.randrange(256)])
        vm.program.reaches(chance.getrandbits(47), pasid=pasid, requester=vm.requester)
        vm.program.machine.dma_write(vm.requester, IOVA, chance.randbytes(64), pasid)
        vm.endpoint.ats.request_page(chance.getrandbits(47) & -PAGE, Access.READ, pasid, group=chance.randrange(512))

    def act(self) -> None:
        acts: list[Callable[[], None]] = [
            self.fill_and_ring,
            self.fill_and_ring,
            self.fill_and_ring,
            self.poke,
            self.switch,
            self.move_queue,
            self.batch,
            self.scribble,
            self.renest,
            self.access,
        ]
        self.chance.choice(acts)()


def attack(guests: int, seed: int, goes_on: Callable[[int], bool]) -> Counter[str]:
    """Let all guests but two attack; how many commands hardware executed for them."""
    program = Program.make(HARDWARE, sanitize=False, iotlb=Iotlb(entries=None))
    chance = random.Random(seed)
    vms = [Vm(program, FIRST + 8 * number) for number in range(guests)]
    victims = [Victim(vms[0]), Victim(vms[-1])]
    attackers = [Attacker(vm, chance) for vm in vms[1:-1]]
    number = 0
    while goes_on(number):
        chance.choice(attackers).act()
        number += 1
        if number % 64 == 0:
            for victim in victims:
                victim.check()
    for victim in victims:
        victim.check()
    return program.machine.command_counts


@pytest.mark.parametrize("seed", range(3))
def test_four_hostile_guests_reach_nothing_of_two_others(seed: int) -> None:
    executed = attack(6, seed, lambda number: number < 1500)

    assert {opcode.name for opcode in Opcode} - {opcode.name for opcode in OF_HOSTS} <= set(executed)
    assert executed.total() > 1500


@pytest.mark.long
def test_sixty_two_hostile_guests_reach_nothing_of_two_others_for_minutes() -> None:
    end = time.monotonic() + LONG_SECONDS
    assert attack(64, 64, lambda _: time.monotonic() < end)
