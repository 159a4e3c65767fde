"""One VINTF: whose it is, and which StreamIDs its owner may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_smmuv3_cmdqv.spec.cmdqv_registers import SID_MATCH, SID_REPLACE, SLOTS, VINTF_CONFIG

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.cmdqv.vcmdq import Vcmdq


@define(eq=False)
class Vintf:
    """An interface. ``slots``: how many StreamIDs it can tell apart. ``queues``: its VCMDQs, by logical index.

    ``for_guests``: this whole block is what a guest sees, where no interface is a hypervisor's.
    """

    slots: int
    for_guests: bool = False
    block_enabled: bool = False
    config: VINTF_CONFIG = field(factory=VINTF_CONFIG)
    is_on: bool = False
    """Its own EN."""
    is_hypervisors: bool = False
    """Its queues take every command as it is."""
    match: list[SID_MATCH] = field(init=False)
    replace: list[SID_REPLACE] = field(init=False)
    queues: dict[int, Vcmdq] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.match = [SID_MATCH()] * SLOTS
        self.replace = [SID_REPLACE()] * SLOTS

    @property
    def enabled(self) -> bool:
        """Whether its queues may run."""
        return self.block_enabled and self.is_on

    def configure(self, value: int) -> None:
        """Take what software writes to CONFIG."""
        written = VINTF_CONFIG.decode(value & int(VINTF_CONFIG(EN=1, VMID=VINTF_CONFIG.VMID.maximum, HYP_OWN=1)))
        self.config = written.replace(HYP_OWN=0) if self.for_guests else written
        self.is_on, self.is_hypervisors = bool(self.config.EN), bool(self.config.HYP_OWN)

    def stream_of(self, virtual: int) -> int | None:
        """Give the SMMU's StreamID of one that the owner names; the lowest slot that matches counts."""
        if virtual > SID_MATCH.VIRT_SID.maximum:
            return None
        named = SID_MATCH(EN=1, VIRT_SID=virtual)
        for slot in range(self.slots):
            if self.match[slot] == named:
                return int(self.replace[slot].PHYS_SID)
        return None

    @property
    def errors(self) -> int:
        """A bit for each logical queue that has an error."""
        return sum(1 << logical for logical, queue in self.queues.items() if queue.told_error)
