"""The host's side of a Tegra241 CMDQV: its own interface, and one for each guest (Linux: tegra241-cmdqv)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.numbers import Numbers
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.host.cmdqv_registers import WORD, BlockRegisters, VcmdqRegisters
from viommu_smmuv3_cmdqv.host.command_queue import CommandQueue
from viommu_smmuv3_cmdqv.host.queue import HostRing
from viommu_smmuv3_cmdqv.spec import cmdqv_registers as spec
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    CMDQV_CMDQ_ALLOC,
    CMDQV_CONFIG,
    CMDQV_PARAM,
    SID_MATCH,
    SID_REPLACE,
    VCMDQ_BASE,
    VINTF_CONFIG,
)
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu_smmuv3_cmdqv.host.smmu import Smmu
    from viommu_smmuv3_cmdqv.spec.commands import Command

HOSTS_VINTF = 0
HOSTS_QUEUE_LG2 = 10
"""Log2 of the entries of the host's own VCMDQ."""
WIDE = 8
A_GUESTS = frozenset({CommandOpcode.TLBI_NH_ASID, CommandOpcode.TLBI_NH_VA, CommandOpcode.ATC_INV})
"""What a queue without HYP_OWN takes, besides SYNC."""


@define(eq=False)
class HostCmdqv:
    """A block that is there. ``vintfs``: the numbers that guests can have."""

    smmu: Smmu
    registers: BlockRegisters
    param: CMDQV_PARAM
    vintfs: Numbers
    own: CommandQueue | None = None
    """A queue of the driver's own, for invalidations."""
    takes_all: bool = False
    """Whether that takes every command: not in a guest, where HYP_OWN cannot be set."""

    @classmethod
    def bring_up(cls, smmu: Smmu) -> HostCmdqv | None:
        """Reset the block, assign its queues, and take the first interface. None where there is no block.

        Raises NoMemory.
        """
        registers = BlockRegisters(smmu.registers.port)
        param = registers.read(spec.PARAM_AT, CMDQV_PARAM)
        if not param.VER:
            return None
        made = cls(smmu, registers, param, Numbers("VINTF", range(1, 1 << param.NUM_VINTF_LOG2)))
        made.reset()
        return made

    def reset(self) -> None:
        """Switch it off and on, say whose each queue is, and start the host's."""
        config = self.registers.read(spec.CONFIG_AT, CMDQV_CONFIG)
        for enabled in (0, 1):
            self.registers.write(spec.CONFIG_AT, config.replace(EN=enabled))
        for vintf in range(1 << self.param.NUM_VINTF_LOG2):
            for logical in range(self.queues_per_vintf):
                self._allocate(vintf, logical, allocated=False)
        self.close(HOSTS_VINTF)
        self.open(HOSTS_VINTF, 0, hypervisors=True)
        self.takes_all = self._is_hypervisors(HOSTS_VINTF)
        self._start_own()

    def queue_for(self, wanted: Iterable[Command]) -> CommandQueue | None:
        """Give the driver's own queue, if it takes all of these commands."""
        takes = self.takes_all or all(command.Opcode in A_GUESTS for command in wanted)
        return self.own if takes else None

    @property
    def queues_per_vintf(self) -> int:
        """How many queues each guest can have."""
        return int(1 << self.param.NUM_VCMDQ_LOG2 - self.param.NUM_VINTF_LOG2)

    @property
    def streams_per_vintf(self) -> int:
        """How many StreamIDs each guest's interface can tell apart."""
        return int(1 << self.param.NUM_SID_PER_VM_LOG2)

    # --- interfaces

    def open(self, vintf: int, vmid: int, *, hypervisors: bool = False) -> None:
        """Switch an interface on, which was closed."""
        config = VINTF_CONFIG(VMID=vmid, HYP_OWN=hypervisors)
        place = self._bank(vintf) + spec.VINTF_CONFIG_AT
        self.registers.write(place, config)
        self.registers.write(place, config.replace(EN=1))

    def close(self, vintf: int) -> None:
        """Switch an interface off, and leave nothing of its last owner."""
        self.registers.write(self._bank(vintf) + spec.VINTF_CONFIG_AT, VINTF_CONFIG())
        for slot in range(self.streams_per_vintf):
            self.clear_stream(vintf, slot)

    def set_stream(self, vintf: int, slot: int, virtual: int, sid: int) -> None:
        """Let an interface's owner name a stream."""
        self.registers.write(self._bank(vintf) + spec.SID_REPLACE_AT + slot * WORD, SID_REPLACE(PHYS_SID=sid))
        self.registers.write(self._bank(vintf) + spec.SID_MATCH_AT + slot * WORD, SID_MATCH(EN=1, VIRT_SID=virtual))

    def clear_stream(self, vintf: int, slot: int) -> None:
        """Let it name that no more."""
        self.registers.write(self._bank(vintf) + spec.SID_MATCH_AT + slot * WORD, SID_MATCH())
        self.registers.write(self._bank(vintf) + spec.SID_REPLACE_AT + slot * WORD, SID_REPLACE())

    def page0(self, vintf: int) -> int:
        """Where an interface's page 0 is, for its owner to map."""
        return spec.PLACE + spec.VINTF_PAGE0 + vintf * spec.VINTF_STRIDE

    # --- queues

    def give_queue(self, vintf: int, logical: int, base: int, lg2: int) -> None:
        """Let an interface have a queue, which its owner will enable."""
        self._allocate(vintf, logical, allocated=True)
        queue = VcmdqRegisters(self.registers, vintf, logical)
        self._stop(queue)
        queue.start(VCMDQ_BASE(ADDR=base, LOG2SIZE=lg2))

    def take_queue(self, vintf: int, logical: int) -> None:
        """Take a queue back."""
        self._stop(VcmdqRegisters(self.registers, vintf, logical))
        self._allocate(vintf, logical, allocated=False)

    def _stop(self, queue: VcmdqRegisters) -> None:
        queue.stop()
        # What the queue's last ATC_INV waits for must not surface with its next owner.
        self.smmu.queue.synchronize()

    def _allocate(self, vintf: int, logical: int, *, allocated: bool) -> None:
        place = spec.CMDQ_ALLOC + (vintf * self.queues_per_vintf + logical) * WORD
        self.registers.write(place, CMDQV_CMDQ_ALLOC(ALLOC=allocated, LVCMDQ=logical, VINTF=vintf))

    def _bank(self, vintf: int) -> int:
        return spec.VINTF_BANK + vintf * spec.VINTF_BANK_STRIDE

    def _is_hypervisors(self, vintf: int) -> bool:
        return bool(self.registers.read(self._bank(vintf) + spec.VINTF_CONFIG_AT, VINTF_CONFIG).HYP_OWN)

    def _start_own(self) -> None:
        lg2 = min(HOSTS_QUEUE_LG2, self.smmu.able.idr1.CMDQS)
        ring = HostRing(0, lg2, 16)
        base = self.smmu.frames.allocate(ring.pages)
        self.give_queue(HOSTS_VINTF, 0, base, lg2)
        queue = VcmdqRegisters(self.registers, HOSTS_VINTF, 0)
        if queue.enable():
            self.own = CommandQueue(queue, self.smmu.memory, HostRing(base, lg2, 16), commands.silent_sync())
            return
        self.take_queue(HOSTS_VINTF, 0)  # a VMM that has none to give: the SMMU's own must do
        self.smmu.frames.free(base, ring.pages)

    # --- interrupts

    def hear(self) -> list[tuple[int, int]]:
        """Look after an error of the host's own queue. Gives the guests' interfaces that have one, and their maps."""
        errors = self.registers.read_wide(spec.VINTF_ERR_MAP_AT)
        if errors & 1 and self.own is not None:
            self.own.recover()
        found = []
        for vintf in self.vintfs.allowed:
            if errors >> vintf & 1:
                place = self._bank(vintf) + spec.LVCMDQ_ERR_MAP_AT
                maps = [self.registers.read_wide(place + WIDE * index) for index in (0, 1)]
                found.append((vintf, maps[0] | maps[1] << 64))
        return found
