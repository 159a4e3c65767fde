"""What a caller asks of a machine, checked against what the hardware can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

import numpy as np
from attrs import frozen

from viommu._engine import NO_PASID
from viommu.errors import BadValue, OutOfRange
from viommu.faults import Access

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from viommu.hookspecs import DriverInfo

_Kind = TypeVar("_Kind", np.uint8, np.uint32, np.uint64)
_Column: TypeAlias = "int | NDArray[np.integer]"
_MOST = {np.dtype(kind): int(np.iinfo(kind).max) for kind in (np.uint8, np.uint16, np.uint32, np.uint64)}
"""What a column cannot but be within, by its type."""

WHOLE_NUMBERS = (int, np.integer)
IOVA_LAST = (1 << 64) - 1
ACCESS_LAST = int(Access.READ | Access.WRITE | Access.EXECUTE | Access.PRIVILEGED)
RIGHTS = int(Access.READ | Access.WRITE | Access.EXECUTE)


@frozen
class Bounds:
    """What one driver's hardware can be asked."""

    driver: str
    requester_last: int
    pasid_last: int
    """-1 where the hardware has no PASIDs."""

    @classmethod
    def of(cls, info: DriverInfo) -> Bounds:
        """Take them from what the driver says of itself."""
        return cls(info.name, (1 << info.requester_bits) - 1, (1 << info.pasid_bits) - 1 if info.pasid_bits else -1)

    def check(self, requester: int, pasid: int | None) -> None:
        """Refuse what does not exist. Raises OutOfRange, BadValue."""
        if not _is_within(requester, self.requester_last):
            _refuse(f"RID for {self.driver}", requester, self.requester_last)
        if pasid is not None:
            self.check_pasids()
            if not _is_within(pasid, self.pasid_last):
                _refuse(f"PASID for {self.driver}", pasid, self.pasid_last)

    def check_pasids(self) -> None:
        """Refuse any PASID where the hardware has none. Raises BadValue."""
        if self.pasid_last < 0:
            raise BadValue("PASID", f"for {self.driver}", "possible: its hardware has no PASIDs")


@frozen(eq=False)
class Requests:
    """The columns of a batch, in the engine's types and of one length."""

    requester: NDArray[np.uint32]
    iova: NDArray[np.uint64]
    access: NDArray[np.uint8]
    pasid: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.iova)


def check_access(iova: int, access: int) -> None:
    """Refuse an address or an access that no device can make. Raises OutOfRange, BadValue."""
    if not _is_within(iova, IOVA_LAST):
        _refuse("IOVA", iova, IOVA_LAST)
    if not _is_within(access, ACCESS_LAST):
        _refuse("access", access, ACCESS_LAST)
    if not int(access) & RIGHTS:
        raise BadValue("access", int(access), "one that reads, writes or executes")


def requests(
    bounds: Bounds, requester: ArrayLike, iova: ArrayLike, access: ArrayLike, pasid: ArrayLike | None
) -> Requests:
    """Check columns (or single values, which stand for every row). Raises BadValue, OutOfRange naming the row."""
    if pasid is not None:
        bounds.check_pasids()
    columns = (
        _column("RID", requester, bounds.requester_last),
        _column("IOVA", iova, IOVA_LAST),
        _column("access", access, ACCESS_LAST),
        NO_PASID if pasid is None else _column("PASID", pasid, bounds.pasid_last, also=NO_PASID),
    )
    size = _rows(columns)
    made = spread(*columns, size=size)
    idle = made.access[: size if isinstance(columns[2], np.ndarray) else 1] & RIGHTS == 0
    if idle.any():
        raise BadValue(f"access in row {int(idle.argmax())}", 0, "one that reads, writes or executes")
    return made


def spread(requester: _Column, iova: _Column, access: _Column, pasid: _Column | None, *, size: int) -> Requests:
    """Give every row a value; a column is copied only where it is of another type or length."""
    return Requests(
        _spread(requester, size, np.uint32),
        _spread(iova, size, np.uint64),
        _spread(access, size, np.uint8),
        _spread(NO_PASID if pasid is None else pasid, size, np.uint32),
    )


def first_rows(asked: Requests) -> dict[tuple[int, int | None], int]:
    """Give the first row of each (requester, PASID) of a batch."""
    keys = asked.requester.astype(np.uint64) << np.uint64(32) | asked.pasid
    _, rows = np.unique(keys, return_index=True)
    found: dict[tuple[int, int | None], int] = {}
    for row in rows:
        pasid = int(asked.pasid[row])
        found[int(asked.requester[row]), None if pasid == NO_PASID else pasid] = int(row)
    return found


def _is_within(value: object, last: int) -> bool:
    return isinstance(value, WHOLE_NUMBERS) and bool(0 <= value <= last)


def _refuse(what: str, value: int, last: int) -> NoReturn:
    if not isinstance(value, WHOLE_NUMBERS):
        raise BadValue(what, value, "a whole number")
    raise OutOfRange(what, int(value), last)


def _column(what: str, values: ArrayLike, last: int, also: int | None = None) -> _Column:
    column = _whole_numbers(what, values)
    if isinstance(column, int):
        if 0 <= column <= last or column == also:
            return column
        raise OutOfRange(f"{what} in row 0", column, last)
    if _certainly_within(column, last, also):
        return column
    wrong = (column < 0) | (column > last)
    if also is not None:
        wrong &= column != also
    if wrong.any():
        row = int(wrong.argmax())
        raise OutOfRange(f"{what} in row {row}", int(column[row]), last)
    return column


def _certainly_within(column: NDArray[np.integer], last: int, also: int | None) -> bool:
    """Say in few passes over a column that it is right, as most are; which row is wrong is asked only of the others."""
    if not column.size or _MOST.get(column.dtype, IOVA_LAST + 1) <= last:
        return True
    least, most = int(column.min()), int(column.max())
    return (least >= 0 and most <= last) or least == most == also


def _rows(columns: tuple[_Column, ...]) -> int:
    """Give how many rows columns are for; one of a single row stands for every row, as a single value does."""
    lengths = {len(column) for column in columns if isinstance(column, np.ndarray)}
    if len(lengths - {1}) > 1:
        told = ", ".join(str(len(column) if isinstance(column, np.ndarray) else 1) for column in columns)
        raise BadValue("columns of a batch", f"of {told} rows", "of one length")
    return next(iter(lengths - {1}), 1)


def _spread(column: _Column, size: int, kind: type[_Kind]) -> NDArray[_Kind]:
    """Give a column of a type and a length; a copy only where it is another."""
    if isinstance(column, np.ndarray) and len(column) == size:
        return np.ascontiguousarray(column, kind)
    return np.full(size, column, kind)


def _whole_numbers(what: str, values: ArrayLike) -> _Column:
    """Give whole numbers as an array of one dimension, or as one number."""
    if isinstance(values, WHOLE_NUMBERS):
        return int(values)
    # As objects first: of whole numbers on both sides of 2^63, NumPy would make floating-point ones.
    column = values if isinstance(values, np.ndarray) else np.asarray(values, object)
    if column.dtype == object and all(isinstance(value, WHOLE_NUMBERS) for value in column.flat):
        wide = all(0 <= value <= IOVA_LAST for value in column.flat)
        column = column.astype(np.uint64) if wide else column
    elif column.dtype.kind not in "iu":
        raise BadValue(f"column {what}", str(column.dtype), "made of whole numbers")
    if column.ndim > 1:
        raise BadValue(f"column {what}", f"{column.ndim}-dimensional", "one row of values")
    return column if column.ndim else int(column)
