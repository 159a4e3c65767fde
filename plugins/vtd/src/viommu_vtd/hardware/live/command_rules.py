"""Which descriptors hardware refuses (VT-d 6.5.2.11): a run of them is judged at once, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from attrs import frozen

from viommu_vtd.spec.commands import COMMANDS, TYPE_BITS, InvalidationType
from viommu_vtd.spec.queue_registers import QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from viommu_vtd.spec.registers import CAP, ECAP

    Words: TypeAlias = NDArray[np.uint64]
    """One row for each descriptor, of its 64-bit words."""
    Columns: TypeAlias = Mapping[str, NDArray[np.uint64]]
    Wrong: TypeAlias = NDArray[np.bool_]

WORDS = 2
"""64-bit words of a descriptor in which anything may be set."""

LEGACY_LAST = InvalidationType.WAIT
"""The last type that legacy mode has."""

NEEDS: Mapping[InvalidationType, str] = {
    InvalidationType.DEVICE_TLB: "DT",
    InvalidationType.INTERRUPT_ENTRY_CACHE: "IR",
    InvalidationType.PASID_DEVICE_TLB: "DT",
    InvalidationType.PAGE_GROUP_RESPONSE: "PRS",
}
"""Types that ECAP has to have."""


@frozen
class Abilities:
    """What decides which descriptors there are."""

    cap: CAP
    ecap: ECAP
    scalable: bool
    """The descriptors of scalable mode exist: it, or abort-DMA mode, is in force."""

    def has(self, kind: int) -> bool:
        """Whether there is such a type."""
        if kind not in COMMANDS or (kind > LEGACY_LAST and not self.scalable):
            return False
        need = NEEDS.get(InvalidationType(kind))
        return need is None or bool(getattr(self.ecap, need))


def words_of(raw: NDArray[np.uint8]) -> Words:
    """See descriptors as rows of words."""
    return np.ascontiguousarray(raw).view("<u8").astype(np.uint64, copy=False)


def types_of(words: Words) -> NDArray[np.uint64]:
    """The types of descriptors."""
    (high, low), (upper_high, upper_low) = TYPE_BITS
    lower = words[:, 0] >> np.uint64(low) & np.uint64((1 << high - low + 1) - 1)
    upper = words[:, 0] >> np.uint64(upper_low) & np.uint64((1 << upper_high - upper_low + 1) - 1)
    return lower | upper << np.uint64(high - low + 1)


@frozen(eq=False)
class Run:
    """Descriptors that lie one after the other: the type and, where it is refused, the `QueueError` of each.

    ``columns`` have the fields of those of one type, by type; a type that does not exist has none.
    """

    types: list[int]
    errors: list[int]
    columns: Mapping[int, Columns]

    @classmethod
    def of(cls, raw: NDArray[np.uint8], able: Abilities) -> Run:
        """Decode and judge."""
        words = words_of(raw)
        types = types_of(words)
        errors = np.zeros(len(words), np.uint8)
        columns: dict[int, Columns] = {}
        for kind in set(types.tolist()):
            rows = types == kind
            if not able.has(kind):
                errors[rows] = QueueError.TYPE
                continue
            layout = COMMANDS[InvalidationType(kind)]
            columns[kind] = layout.columns(raw[rows, : layout.size])
            wrong = _reserved(words[rows], layout.reserved_mask) | _impossible(columns[kind], kind, able)
            errors[rows] = np.where(wrong, QueueError.RESERVED, 0)
        return cls(types.tolist(), errors.tolist(), columns)

    @property
    def good(self) -> int:
        """How many come before the first that is refused."""
        return next((index for index, error in enumerate(self.errors) if error), len(self.errors))


def _reserved(words: Words, mask: int) -> Wrong:
    wrong = words[:, 0] & np.uint64(mask & (1 << 64) - 1) | words[:, 1] & np.uint64(mask >> 64)
    for word in range(WORDS, words.shape[1]):
        wrong |= words[:, word]
    return np.not_equal(wrong, 0)


def _impossible(columns: Columns, kind: int, able: Abilities) -> Wrong:
    judge = JUDGES.get(InvalidationType(kind))
    return np.zeros((), np.bool_) if judge is None else judge(columns, able)


def _context_cache(columns: Columns, _: Abilities) -> Wrong:
    return np.equal(columns["G"], 0)


def _iotlb(columns: Columns, able: Abilities) -> Wrong:
    """PSI and MAMV bound page-selective invalidations of this type alone."""
    too_many = np.greater(columns["AM"], able.cap.MAMV) | (not able.cap.PSI)
    return np.equal(columns["G"], 0) | np.equal(columns["G"], 3) & too_many


def _interrupt_entries(columns: Columns, able: Abilities) -> Wrong:
    return np.equal(columns["G"], 1) & np.greater(columns["IM"], able.ecap.MHMV)


def _wait(columns: Columns, able: Abilities) -> Wrong:
    return np.equal(columns["PD"], 1) & (not able.ecap.PDS)


def _pasid_iotlb(columns: Columns, _: Abilities) -> Wrong:
    return np.less(columns["G"], 2)


def _pasid_cache(columns: Columns, _: Abilities) -> Wrong:
    return np.equal(columns["G"], 2)


JUDGES: Mapping[InvalidationType, Callable[[Columns, Abilities], Wrong]] = {
    InvalidationType.CONTEXT_CACHE: _context_cache,
    InvalidationType.IOTLB: _iotlb,
    InvalidationType.INTERRUPT_ENTRY_CACHE: _interrupt_entries,
    InvalidationType.WAIT: _wait,
    InvalidationType.PASID_IOTLB: _pasid_iotlb,
    InvalidationType.PASID_CACHE: _pasid_cache,
}
"""Values that do not exist, by type. Each gives which rows hold one."""
