"""The Python face of the engine: what became of an access, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field, frozen

from viommu._engine import NO_PASID, WHOLE
from viommu.addresses import Iova, Ipa, Pa, Pasid, RequesterId
from viommu.faults import Access, Fault, FaultClass, FaultKind, Refusal, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from viommu._engine import Batch, Result
    from viommu.requests import Requests

RIGHTS = Access.READ | Access.WRITE | Access.EXECUTE

# By the engine's numbers, as an enum's operators are slow.
_ACCESSES = tuple(Access(bits) for bits in range(16))
_RIGHTS_OF = tuple(access & RIGHTS for access in _ACCESSES)
_KINDS, _STAGES, _CLASSES = tuple(FaultKind), tuple(Stage), tuple(FaultClass)


@frozen
class Translation:
    """Where one access goes (bytes).

    ``page_size`` is the smaller of both stages', and 0 where the access passes ``untranslated``: the whole
    address space is one page then. ``rights`` are those of the access's privilege. ``ipa`` is the output of
    stage 1, the IOVA where there is none. ``attrs1`` and ``attrs2`` are the raw memory attributes of each
    stage's leaf, laid out as the format says (`viommu._engine`).
    """

    iova: Iova = field(repr=hex)
    pa: Pa = field(repr=hex)
    page_size: int = field(repr=hex)
    rights: Access
    ipa: Ipa = field(repr=hex)
    attrs1: int = 0
    attrs2: int = 0

    @property
    def untranslated(self) -> bool:
        """Whether no table took part."""
        return not self.page_size


Outcome: TypeAlias = Translation | Fault


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


@define(eq=False)
class Translations:
    """The answer to a batch: columns of n rows, in the order asked; faults become values when they are looked at.

    ``page_lg2`` is log2 of the page size in bytes, `WHOLE` for an untranslated row. ``kind`` is a `FaultKind`,
    0 where the row was translated.
    """

    pa: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    page_lg2: NDArray[np.uint8]
    rights: NDArray[np.uint8]
    asked: Requests
    _records: NDArray[np.void]
    _refusals: dict[tuple[int, int], Any]
    _index: dict[int, int] | None = field(default=None, init=False)

    @classmethod
    def of(cls, batch: Batch, asked: Requests) -> Translations:
        """Wrap the engine's batch; what was asked comes along, since faults name it."""
        return cls(batch.pa, batch.kind, batch.page_lg2, batch.rights, asked, batch.faults, batch.refusals)

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def fault_count(self) -> int:
        """How many rows were refused."""
        return len(self._records)

    def fault(self, row: int) -> Fault | None:
        """Give the fault of one row, None where it was translated."""
        if self._index is None:
            self._index = {int(number): at for at, number in enumerate(self._records["row"])}
        at = self._index.get(row)
        return None if at is None else self._fault_at(at)

    def faults(self) -> Iterator[tuple[int, Fault]]:
        """Give (row, fault) of each refused row, in the order of rows."""
        for at, row in enumerate(self._records["row"]):
            yield int(row), self._fault_at(at)

    def _fault_at(self, at: int) -> Fault:
        record = self._records[at]
        row = int(record["row"])
        requester, pasid = int(self.asked.requester[row]), int(self.asked.pasid[row])
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
            refusal=self._refusals.get((requester, pasid)) if kind is FaultKind.CONFIGURATION else None,
        )
