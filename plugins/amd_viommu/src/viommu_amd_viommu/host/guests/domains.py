"""A guest's DomainIDs, each of which stands for one of the host's (Linux: the gDomID array of a vIOMMU)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.host.domain import Membership

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.numbers import Numbers


@define(eq=False, repr=False)
class GuestDomains:
    """Maps DomainIDs for as long as a nested domain uses them: two guests' equal ids never share a cache tag."""

    owner: str
    ids: Numbers
    _known: dict[int, Membership] = field(factory=dict)

    def take(self, guest_id: int) -> int:
        """Use one once more; the host's id of it. Raises NoSpace."""
        member = self._known.get(guest_id)
        if member is None:
            member = self._known[guest_id] = Membership(self.ids.take(self.owner))
        member.users += 1
        return member.domain

    def give_back(self, guest_id: int) -> None:
        """Use one once less; the last use frees the host's id. No cache bears it then."""
        member = self._known[guest_id]
        member.users -= 1
        if not member.users:
            del self._known[guest_id]
            self.ids.give_back(member.domain)

    def is_last(self, guest_id: int) -> bool:
        """Say whether one more `give_back` frees the host's id."""
        return self._known[guest_id].users == 1

    def host_id(self, guest_id: int) -> int:
        """Give the host's id of one that is in use."""
        return self._known[guest_id].domain

    def find(self, guest_id: int) -> int | None:
        """Give the host's id; None where the guest's is not in use."""
        member = self._known.get(guest_id)
        return None if member is None else member.domain

    def guest_id(self, host_id: int) -> int:
        """Give the guest's id of a host's; 0 where it is none of this guest's."""
        return next((guest for guest, member in self._known.items() if member.domain == host_id), 0)

    def __iter__(self) -> Iterator[int]:
        """Give the host's ids of all that are in use."""
        return (member.domain for member in self._known.values())
