"""HWPT_INVALIDATE on a vIOMMU: a guest's commands, in batches, with its ids made the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import IoError
from viommu_amd_viommu.host.extensions import TYPE, AmdCommand
from viommu_amd_viommu.host.guests import commands as guest_commands
from viommu_amd_viommu.spec.commands import CompletionWait, decode_command

if TYPE_CHECKING:
    from viommu.ops import UserArray
    from viommu_amd_viommu.host.guests.iommu import GuestIommu
    from viommu_amd_viommu.spec.commands import AnyCommand


def invalidate(guest: GuestIommu, array: UserArray) -> None:
    """Execute commands in order, up to one that no guest may give; ``array.done`` counts those before it.

    Raises Invalid, BadAddress, TooBig (the array), IoError (a command: illegal, or of a device that is not there).
    """
    commands = [decode_command(raw) for raw in array.whole(TYPE, AmdCommand.total)]
    batch = Batch(guest, array)
    try:
        for command in commands:
            batch.add(guest_commands.rewrite(command, guest))
            if isinstance(command, CompletionWait):
                batch.flush()
                guest_commands.complete(command, guest)
            batch.taken += 1
    finally:
        batch.flush()


@define
class Batch:
    """The host's commands for those of a guest; each knows which of the guest's it is for.

    ``taken``: how many of the guest's are done once what waits is executed.
    """

    guest: GuestIommu
    array: UserArray
    taken: int = 0
    _waiting: list[tuple[int, bytes]] = field(factory=list)

    def add(self, commands: list[AnyCommand]) -> None:
        """Keep what stands for the guest's next command until the next flush."""
        self._waiting += [(self.taken, command.encode()) for command in commands]

    def flush(self) -> None:
        """Execute what waits. Raises IoError where hardware refuses a command."""
        waiting, self._waiting = self._waiting, []
        halt = self.guest.unit.submit([raw for _, raw in waiting]) if waiting else None
        self.array.done = self.taken if halt is None else waiting[halt.index][0]
        if halt is not None:
            raise IoError("guest command", "index", self.array.done, "one that hardware executes")
