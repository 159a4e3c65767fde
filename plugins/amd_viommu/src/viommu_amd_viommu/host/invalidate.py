"""HWPT_INVALIDATE on a vIOMMU: a guest's commands, in batches, with its ids made the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.kernel_errors import IoError
from viommu_amd_viommu.host import guest_commands
from viommu_amd_viommu.host.extensions import TYPE, AmdCommand
from viommu_amd_viommu.spec.commands import CompletionWait, decode_command

if TYPE_CHECKING:
    from viommu.ops import UserArray
    from viommu_amd_viommu.host.guest_iommu import GuestIommu
    from viommu_amd_viommu.spec.commands import AnyCommand


def invalidate(guest: GuestIommu, array: UserArray) -> None:
    """Execute commands in order, up to one that no guest may give; ``array.done`` counts those before it.

    Raises Invalid, BadAddress, TooBig (the array), IoError (a command: illegal, or of a device that is not there).
    """
    commands = [decode_command(raw) for raw in array.whole(TYPE, AmdCommand.total)]
    batch = Batch(guest, array)
    for index, command in enumerate(commands):
        try:
            host = guest_commands.rewrite(command, guest)
        except IoError:
            batch.flush()
            raise
        batch.add(index, host)
        if isinstance(command, CompletionWait):
            batch.flush()
            guest_commands.complete(command, guest)
    batch.flush()


class Batch:
    """The host's commands for those of a guest; each knows which of the guest's it is for."""

    def __init__(self, guest: GuestIommu, array: UserArray) -> None:
        self.guest, self.array = guest, array
        self._pending: list[Owned] = []
        self._taken = 0

    def add(self, index: int, commands: list[AnyCommand]) -> None:
        """Keep what stands for a guest's command until the next flush."""
        self._pending += [Owned(index, command.encode()) for command in commands]
        self._taken = index + 1

    def flush(self) -> None:
        """Execute what was kept. Raises IoError where a device did not answer."""
        pending, self._pending = self._pending, []
        halt = self.guest.unit.submit([owned.raw for owned in pending]) if pending else None
        if halt is not None:
            self.array.done = pending[halt.index].index
            raise IoError("guest command", "index", self.array.done, "one that hardware executes")
        self.array.done = self._taken


@frozen
class Owned:
    """A command of the host's, and the index of the guest's that it stands for."""

    index: int
    raw: bytes
