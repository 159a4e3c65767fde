"""The Python face of the engine: what became of an access, as values. Addresses and sizes are in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from viommu._engine import NO_PASID, WHOLE, Batch, Translation, name_rights
from viommu.addresses import Iova, Ipa, Pa, Pasid, RequesterId
from viommu.faults import Access, Fault, FaultClass, FaultKind, Refusal, Stage
from viommu.requests import spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from viommu._engine import Result
    from viommu.requests import Requests

RIGHTS = Access.READ | Access.WRITE | Access.EXECUTE
"""All rights that a translation can grant."""

# By the engine's numbers, as an enum's operators are slow.
_ACCESSES = tuple(Access(bits) for bits in range(16))
_RIGHTS_OF = tuple(access & RIGHTS for access in _ACCESSES)
_KINDS, _STAGES, _CLASSES = tuple(FaultKind), tuple(Stage), tuple(FaultClass)
name_rights(_RIGHTS_OF[:8])

__all__ = [
    "RIGHTS",
    "Outcome",
    "Translation",
    "Translations",
    "outcome_of",
    "page_size_of",
    "pasid_of",
    "refused",
    "untranslated",
]

Outcome: TypeAlias = Translation | Fault
"""What one access comes to."""


def page_size_of(page_lg2: int) -> int:
    """Give the bytes of a page, 0 for an untranslated access."""
    return 0 if page_lg2 == WHOLE else 1 << page_lg2


def pasid_of(column: int) -> Pasid | None:
    """Read a PASID as the engine's columns hold it."""
    return None if column == NO_PASID else Pasid(column)


def outcome_of(requester: int, pasid: int | None, result: Result, refusal: Refusal | None = None) -> Outcome:
    """Turn the engine's answer into a value for people."""
    if not result.kind:
        return Translation(
            Iova(result.iova),
            Pa(result.pa),
            page_size_of(result.page_lg2),
            _RIGHTS_OF[result.rights],
            Ipa(result.ipa),
            result.attrs1,
            result.attrs2,
        )
    return Fault(
        requester=RequesterId(requester),
        pasid=None if pasid is None else Pasid(pasid),
        iova=Iova(result.iova),
        access=_ACCESSES[result.access],
        kind=_KINDS[result.kind],
        stage=_STAGES[result.stage],
        level=result.level,
        fault_class=_CLASSES[result.fault_class],
        ipa=Ipa(result.ipa),
        entry_address=result.entry_address,
        entry_value=result.entry_value,
        missing=_ACCESSES[result.missing],
        granted=_RIGHTS_OF[result.rights],
        top=result.top,
        for_top=result.for_top,
        for_update=result.for_update,
        driver_bits=result.driver_bits,
        refusal=refusal,
    )


def untranslated(iova: int) -> Translation:
    """Make the outcome of an access that passes as it is, with every right."""
    return Translation(Iova(iova), Pa(iova), 0, RIGHTS, Ipa(iova))


def refused(requester: int, pasid: int | None, iova: int, access: int, refusal: Refusal) -> Fault:
    """Make the fault of an access whose configuration was refused, as the engine does."""
    return Fault(
        requester=RequesterId(requester),
        pasid=None if pasid is None else Pasid(pasid),
        iova=Iova(iova),
        access=Access(access),
        kind=FaultKind.CONFIGURATION,
        stage=Stage.NONE,
        level=0,
        fault_class=FaultClass.CONFIGURATION,
        ipa=Ipa(iova),
        entry_address=0,
        entry_value=0,
        missing=Access(0),
        granted=Access(0),
        top=False,
        for_top=False,
        for_update=False,
        refusal=refusal,
    )


class Translations(Batch):
    """The answer to a batch: columns of n rows, in the order asked; faults become values when they are looked at.

    ``page_lg2`` is log2 of the page size in bytes, `WHOLE` for an untranslated row. ``kind`` is a `FaultKind`,
    0 where the row was translated.
    """

    __slots__ = ()

    @property
    def asked(self) -> Requests:
        """What was asked, as columns."""
        return spread(*self.given, size=len(self))

    def fault(self, row: int) -> Fault | None:
        """Give the fault of one row, None where it was translated."""
        rows = self.records["row"]
        at = int(np.searchsorted(rows, row)) if 0 <= row < len(self) else len(rows)
        return self._fault_at(at) if at < len(rows) and rows[at] == row else None

    def faults(self) -> Iterator[tuple[int, Fault]]:
        """Give (row, fault) of each refused row, in the order of rows."""
        for at, row in enumerate(self.records["row"]):
            yield int(row), self._fault_at(at)

    def _fault_at(self, at: int) -> Fault:
        record = self.records[at]
        row = int(record["row"])
        asked = self.given
        requester, pasid = int(_at(asked[0], row)), NO_PASID if asked[3] is None else int(_at(asked[3], row))
        kind = FaultKind(int(self.kind[row]))
        return Fault(
            requester=RequesterId(requester),
            pasid=pasid_of(pasid),
            iova=Iova(int(record["iova"])),
            access=Access(int(record["access"])),
            kind=kind,
            stage=Stage(int(record["stage"])),
            level=int(record["level"]),
            fault_class=FaultClass(int(record["fault_class"])),
            ipa=Ipa(int(record["ipa"])),
            entry_address=int(record["entry_address"]),
            entry_value=int(record["entry_value"]),
            missing=Access(int(record["missing"])),
            granted=Access(int(record["rights"])) & RIGHTS,
            top=bool(record["top"]),
            for_top=bool(record["for_top"]),
            for_update=bool(record["for_update"]),
            driver_bits=int(record["driver_bits"]),
            refusal=self.refusals.get((requester, pasid)) if kind is FaultKind.CONFIGURATION else None,
        )


def _at(column: int | NDArray[np.integer], row: int) -> int | np.integer:
    return column[row] if isinstance(column, np.ndarray) else column
