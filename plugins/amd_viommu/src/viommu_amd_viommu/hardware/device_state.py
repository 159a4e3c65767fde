"""What hardware remembers of devices besides its caches: who has faulted, and which DomainIDs are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.commands import CommandTable

if TYPE_CHECKING:
    from collections.abc import Callable


@define(eq=False, repr=False)
class DeviceState:
    """At most one entry for each DeviceID. ``domain`` reads a device's DomainID, None where it has none."""

    domain: Callable[[int], int | None]
    _faulted: set[int] = field(factory=set)
    _domain_of: dict[int, int] = field(factory=dict)
    guest_devices: CommandTable = field(factory=CommandTable)
    """DomainID -> devices whose guest tables may be cached under it."""

    def first_fault(self, device: int) -> bool:
        """Whether this is the first page fault since the device's entry was read: what DTE.SE lets through."""
        first = device not in self._faulted
        self._faulted.add(device)
        return first

    def joined(self, device: int, domain: int) -> None:
        """The device's guest tables are cached under this DomainID from now on."""
        before = self._domain_of.get(device)
        if before == domain:
            return
        self._leave(device)
        self._domain_of[device] = domain
        self.guest_devices.add(domain, device)

    def forget(self, device: int) -> None:
        """The device's entry is read anew: its next page fault is the first."""
        self._faulted.discard(device)
        self._leave(device)

    def forget_all(self) -> None:
        """Forget every device."""
        self._faulted.clear()
        self._domain_of.clear()
        self.guest_devices.clear()

    def _leave(self, device: int) -> None:
        domain = self._domain_of.pop(device, None)
        if domain is not None:
            self.guest_devices.remove(domain, device)
