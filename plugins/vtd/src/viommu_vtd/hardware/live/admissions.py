"""What devices may do, kept with what was read to find that out: it holds while memory says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from viommu_vtd.hardware.search import Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.faults import ConfigurationLog, Refusal
    from viommu_vtd.hardware.model import VtdHardware

Judge: TypeAlias = "Callable[[VtdHardware, Search, int, int | None], Refusal | None]"
"""Says by structures in memory why a (requester, PASID) may not do something; None where it may."""

Fetched: TypeAlias = "tuple[type, int, bytes]"
"""A structure, its address, and the bytes that were there."""

MOST = 256
"""Answers that are kept: a guest may have more PASIDs than there is memory for."""


@frozen(eq=False)
class Fetches:
    """A ConfigurationLog that keeps what is read, for another one's reader too."""

    log: ConfigurationLog
    made: list[Fetched] = field(factory=list)

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Keep it. Who finds no memory refuses, which is not kept."""
        self.log.fetched(structure, address, raw, note)
        if raw is not None:
            self.made.append((structure, address, raw))

    def note(self, text: str) -> None:
        """Pass it on."""
        self.log.note(text)


@define(eq=False)
class Admissions:
    """Asks one judge, before each transaction of a device.

    Structures are read each time. To judge them takes ten times as long: while registers and bytes are those of a
    request that was let through, nothing is judged again. No refusal is kept, nor what FPD silences.
    """

    judge: Judge
    _admitted: dict[tuple[int, int | None], tuple[VtdHardware, list[Fetched]]] = field(init=False, factory=dict)

    def __len__(self) -> int:
        return len(self._admitted)

    def refusal(
        self, translation: VtdHardware, requester: int, pasid: int | None, log: ConfigurationLog
    ) -> tuple[Refusal | None, bool]:
        """Say why a device may not; and whether FPD was met on the way."""
        if self._is_admitted(translation, requester, pasid, log):
            return None, False
        fetches = Fetches(log)
        search = Search(translation.unit, translation.memory, fetches)
        refusal = self.judge(translation, search, requester, pasid)
        if refusal is None and not search.silenced:
            self._keep((requester, pasid), (translation, fetches.made))
        return refusal, search.silenced

    def _is_admitted(self, translation: VtdHardware, requester: int, pasid: int | None, log: ConfigurationLog) -> bool:
        under, fetches = self._admitted.get((requester, pasid), (None, ()))
        if under is not translation:
            return False
        read = translation.memory.read
        for structure, address, raw in fetches:
            if read(address, len(raw)) != raw:
                return False
            log.fetched(structure, address, raw)
        return True

    def _keep(self, key: tuple[int, int | None], answer: tuple[VtdHardware, list[Fetched]]) -> None:
        if len(self._admitted) >= MOST:
            self._admitted.clear()
        self._admitted[key] = answer
