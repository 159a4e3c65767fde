"""What a caller does wrong: one exception class for each meaning.

A message names the object, the field, the value and the bound, in one line. What a guest's tables do wrong is
never one of these: that is a `viommu.faults.Fault`, a value.
"""

from __future__ import annotations

from attrs import define

__all__ = [
    "BadField",
    "BadPaste",
    "BadRegister",
    "BadValue",
    "BrokenDriver",
    "CaptureError",
    "DriverBug",
    "MemoryOverlap",
    "Misaligned",
    "NotBacked",
    "NotPinned",
    "OutOfFrames",
    "OutOfRange",
    "UnknownDriver",
    "UnknownKind",
    "ViommuError",
]

TOLD_LENGTH = 240


def shown(value: object) -> str:
    """Write a value as messages show it: integers in hexadecimal, text quoted, anything long cut short."""
    if isinstance(value, int):
        return hex(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def told(error: BaseException) -> str:
    """Write an exception in one line, cut short where it would fill a screen."""
    text = " ".join(str(error).split())
    text = text if len(text) <= TOLD_LENGTH else f"{text[:TOLD_LENGTH]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class ViommuError(Exception):
    """Base of every error that viommu raises on purpose."""


class BadField(ViommuError):
    """A caller's argument cannot be used."""


@define
class BadValue(BadField):
    """A field holds something that it may not; ``expected`` says what it may hold."""

    what: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"{self.what} {shown(self.value)} is not {self.expected}"


@define
class OutOfRange(BadField):
    """A number lies outside ``first`` to ``last`` (both allowed), in the unit that ``what`` has."""

    what: str
    value: int
    last: int
    first: int = 0

    def __str__(self) -> str:
        if self.value < self.first:
            return f"{self.what} {shown(self.value)} is below {self.first:#x}"
        return f"{self.what} {shown(self.value)} is above {self.last:#x}"


@define
class Misaligned(BadField):
    """An address or size is not a multiple of what its object demands."""

    what: str
    value: int
    multiple: int

    def __str__(self) -> str:
        return f"{self.what} {self.value:#x} is not a multiple of {self.multiple:#x}"


@define
class BadRegister(BadField):
    """A register describes no hardware that the driver models; ``expected`` says what it models."""

    name: str
    value: int
    expected: str

    def __str__(self) -> str:
        return f"register {self.name} {self.value:#x}: {self.expected}"


@define
class MemoryOverlap(ViommuError):
    """A range of physical memory is taken already (closed ranges, bytes)."""

    start: int
    last: int
    taken_start: int
    taken_last: int

    def __str__(self) -> str:
        taken = f"{self.taken_start:#x}-{self.taken_last:#x}"
        return f"physical range {self.start:#x}-{self.last:#x} overlaps {taken}, which is taken"


@define
class OutOfFrames(ViommuError):
    """No run of free frames is long enough (bytes)."""

    length: int
    address_bits: int

    def __str__(self) -> str:
        return f"no free run of {self.length:#x} bytes in a physical address space of {self.address_bits} bits"


@define
class NotBacked(ViommuError):
    """A physical range holds a hole (bytes)."""

    pa: int
    length: int

    def __str__(self) -> str:
        return f"physical range {self.pa:#x}-{self.pa + self.length - 1:#x} is not backed by memory"


@define
class NotPinned(ViommuError):
    """A page is unpinned more often than it was pinned."""

    pa: int

    def __str__(self) -> str:
        return f"page at {self.pa:#x} is not pinned"


@define
class CaptureError(ViommuError):
    """A file of a capture is missing, cut short or holds something impossible.

    ``where`` is a row (``row 17``) or a member of the file, "" for the file as a whole.
    """

    file: str
    where: str
    field: str
    value: object
    bound: str

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.where) if part)
        shown_value = "" if self.value is None else f" {shown(self.value)}"
        return f"{place}: {self.field}{shown_value}: {self.bound}"


@define
class UnknownDriver(ViommuError):
    """No installed distribution offers a driver of this name."""

    name: str
    installed: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.installed) or "none"
        return f"no driver named {shown(self.name)} is installed (installed: {known})"


@define
class BrokenDriver(ViommuError):
    """An installed driver cannot be used. ``reason`` says which promise of `viommu.hookspecs` it breaks."""

    name: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"driver {self.name} of {self.distribution} {self.version} cannot be used: {self.reason}"


@define
class DriverBug(ViommuError):
    """A driver broke a promise of `viommu.hookspecs` while it was in use."""

    driver: str
    hook: str
    what: str

    def __str__(self) -> str:
        return f"driver {self.driver} broke its promise in {self.hook}: {self.what}"


@define
class UnknownKind(BadField):
    """A driver explains no bytes of this kind. ``nearest`` is the one that was probably meant."""

    driver: str
    kind: str
    nearest: str | None

    def __str__(self) -> str:
        guess = "" if self.nearest is None else f"did you mean {self.nearest}? "
        listing = f"viommu decode --list {self.driver}"
        return f"driver {self.driver} explains no kind {shown(self.kind)} ({guess}`{listing}` names all)"


@define
class BadPaste(BadField):
    """Pasted text that cannot be read as what it should be; ``reason`` says what it would have to be."""

    text: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(' '.join(self.text[:200].split()))}: {self.reason}"
