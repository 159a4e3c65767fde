"""What a recording is made of: events, each with all that the machine was told meanwhile, and all that it did."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from attrs import define, field

from viommu.service.recording.stores import MOST_KEPT, Stored, Stores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

T = TypeVar("T")

MOST_BYTES = 20 << 20
"""What one event may hold of memory, and of what a program was told. One that is larger is cut there."""
WORD = 8
AROUND = 32
"""What one thing is counted as beside its bytes: a line has its numbers, and what parts it from others, as text."""
INTEGERS = range(-(1 << 63), 1 << 64)


class BadLine(Exception):
    """A line is no event; the text says why."""


class What(Enum):
    """What came to the machine."""

    OPEN = "open"
    IOCTL = "ioctl"
    READ = "read"
    WRITE = "write"
    MAP = "map"
    LOAD = "load"
    STORE = "store"
    CLOSE = "close"
    """The last descriptor of a file was closed (``words``: its number)."""
    UNMAP = "unmap"
    """The last mapping of registers is gone (``words``: its number)."""
    STORES = "stores"
    """Stores were found in registers that are shared memory (``words``: the mapping's number; ``stores``)."""
    WORK = "work"
    """A device did something of its own (``words``: which device, and its how-manieth piece of work)."""


class Asked(Enum):
    """What the machine asked a program while it answered it."""

    READ = "read"
    """(address, length); data, None where it is not readable."""
    WRITE = "write"
    """(address), data; answer (1,) or (0,)."""
    PIN = "pin"
    """(address, pages, for writing); the answer is runs: physical address, pages, and so on; None where refused."""
    PIN_FILE = "pin file"
    """(number of the file, offset, pages, for writing); likewise."""
    FILE = "file"
    """(descriptor); (0,): some file; (1, number): one to pin pages of; (2, number): one of ours; None: not open."""
    DESCRIPTOR = "descriptor"
    """(descriptor); (1,): an eventfd, (0,): another; None: not open."""
    INSTALL = "install"
    """(); (descriptor, number of the file), None where there is no room."""
    UNINSTALL = "uninstall"
    """(descriptor); nothing."""
    ALIVE = "alive"
    """(); (1,) or (0,)."""
    ACCOUNT = "account"
    """(); (limit in pages or -1, CAP_IPC_LOCK)."""


class Side(NamedTuple):
    """One thing that was asked, and what was answered."""

    kind: Asked
    asked: tuple[int, ...] = ()
    answer: tuple[int, ...] | None = None
    data: bytes | None = None


class Change(NamedTuple):
    """Memory of a program as the host found it, where it is not as the host has last seen it. It begins at a word.

    ``since`` 0: when the event began; else: from the so manieth access to memory of this event on. ``data`` None:
    nothing is there any more.
    """

    since: int
    address: int
    data: bytes | None


class Outcome(NamedTuple):
    """The answer to a question."""

    result: int
    words: tuple[int, ...] = ()
    data: bytes = b""


@define(eq=False)
class Event:
    """One event. ``at``: microseconds since the recording began; ``by``: whose question it is, a program's number.

    ``words`` and ``data`` are the question. ``stores``: offset, size, value. ``changes`` is what was read of programs'
    memory, ``stored`` what was written there, ``refused`` the addresses where that could not be. ``interrupts``:
    device, kind, vector. ``outcome`` None: it failed within the service. ``is_cut``: it was too large to be kept whole.
    """

    what: What
    at: int
    by: int | None = None
    words: tuple[int, ...] = ()
    data: bytes = b""
    stores: list[tuple[int, int, int]] = field(factory=list)
    sides: list[Side] = field(factory=list)
    changes: list[Change] = field(factory=list)
    stored: Stores = field(factory=Stores)
    refused: list[int] = field(factory=list)
    interrupts: list[tuple[int, int, int]] = field(factory=list)
    outcome: Outcome | None = None
    is_cut: bool = False
    was_stored: Sequence[Stored] = ()
    """What a file says that was stored."""
    room: int = MOST_BYTES

    def takes(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        self.room -= size + AROUND
        self.is_cut |= self.room < 0
        return not self.is_cut

    def store(self, address: int, data: bytes) -> None:
        """Take note that memory of a program was stored to."""
        kept = 0 if self.is_cut else self.stored.add(address, data)
        if kept:
            self.takes(kept)

    def refuse(self, address: int) -> None:
        """Take note that memory could not be stored to."""
        if self.takes(0):
            self.refused.append(address)

    def to_json(self) -> dict[str, Any]:
        """Give the line of the file."""
        outcome = self.outcome
        parts: dict[str, Any] = {
            "by": self.by,
            "words": list(self.words),
            "data": self.data.hex(),
            "stores": [list(store) for store in self.stores],
            "asked": [_side_to_json(side) for side in self.sides],
            "changes": [[change.since, change.address, _hex(change.data)] for change in self.changes],
            "stored": [_stored_to_json(stored) for stored in self.stored.kept()],
            "refused": self.refused,
            "interrupts": [list(interrupt) for interrupt in self.interrupts],
            "cut": self.is_cut or None,
            "outcome": None if outcome is None else [outcome.result, list(outcome.words), outcome.data.hex()],
        }
        kept = {key: value for key, value in parts.items() if value == 0 or value}
        return {"what": self.what.value, "at": self.at, **kept}

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Self:
        """Read a line. Raises BadLine."""
        by = line.get("by")
        outcome = line.get("outcome")
        return cls(
            _one_of(What, line.get("what")),
            _integer(line.get("at")),
            None if by is None else _integer(by),
            _integers(line.get("words", [])),
            _bytes(line.get("data", "")),
            [_three(store) for store in _list(line.get("stores", []))],
            [_side(side) for side in _list(line.get("asked", []))],
            [_change(change) for change in _list(line.get("changes", []))],
            Stores(),
            list(_integers(line.get("refused", []))),
            [_three(interrupt) for interrupt in _list(line.get("interrupts", []))],
            None if outcome is None else _outcome(outcome),
            line.get("cut") is True,
            [_stored(store) for store in _list(line.get("stored", []))],
        )


def _stored_to_json(stored: Stored) -> list[int | str]:
    whole: list[int | str] = [stored.address, stored.data.hex()]
    return [*whole, stored.length] if stored.length > MOST_KEPT else whole


def _side_to_json(side: Side) -> list[Any]:
    whole = [side.kind.value, list(side.asked), None if side.answer is None else list(side.answer), _hex(side.data)]
    while whole[-1] is None:
        whole.pop()
    return whole


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


# --- what a file says is checked: anybody may have written it


def _integer(value: object) -> int:
    if type(value) is not int or value not in INTEGERS:
        raise BadLine(f"has {_short(value)} where a number of 64 bits belongs")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadLine(f"has {_short(value)} where a list belongs")
    return value


def _integers(value: object) -> tuple[int, ...]:
    return tuple([_integer(one) for one in _list(value)])


def _bytes(value: object) -> bytes:
    try:
        return bytes.fromhex(value)  # type: ignore[arg-type]  # what is no text raises
    except (TypeError, ValueError) as error:
        raise BadLine(f"has {_short(value)} where bytes in hexadecimal belong") from error


def _optional(value: object, read: Callable[[object], T]) -> T | None:
    return None if value is None else read(value)


def _one_of(kind: type[Enum], value: object) -> Any:  # noqa: ANN401 - a member of it
    try:
        return kind(value)
    except ValueError as error:
        raise BadLine(f"has {_short(value)}, which is none of: {', '.join(one.value for one in kind)}") from error


def _three(value: object) -> tuple[int, int, int]:
    numbers = _integers(value)
    if len(numbers) != 3:
        raise BadLine(f"has {len(numbers)} numbers where three belong")
    return numbers[0], numbers[1], numbers[2]


def _parts(value: object, least: int, most: int) -> list[Any]:
    found = _list(value)
    if not least <= len(found) <= most:
        raise BadLine(f"has a list of {len(found)} where {least} to {most} belong")
    return [*found, *[None] * (most - len(found))]


def _side(value: object) -> Side:
    kind, asked, answer, data = _parts(value, 2, 4)
    return Side(_one_of(Asked, kind), _integers(asked), _optional(answer, _integers), _optional(data, _bytes))


def _change(value: object) -> Change:
    since, address, data = _parts(value, 2, 3)
    found = _optional(data, _bytes)
    at = _integer(address)
    if at % WORD or at < 0 or (found is not None and len(found) % WORD):
        raise BadLine(f"has a change at {at:#x} that is not of whole words")
    return Change(_integer(since), at, found)


def _stored(value: object) -> Stored:
    address, data, length = _parts(value, 2, 3)
    found = _bytes(data)
    return Stored(_integer(address), len(found) if length is None else _integer(length), found)


def _outcome(value: object) -> Outcome:
    result, words, data = _parts(value, 3, 3)
    return Outcome(_integer(result), _integers(words), _bytes(data))


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, list | dict) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
