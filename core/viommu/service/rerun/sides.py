"""What the recorded run asked its programs, and was answered, for one event: a rerun is to ask the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.service.recording.events import Asked, Side

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLD = {
    Asked.READ: "reads {1} bytes of the program at {0:#x}",
    Asked.WRITE: "writes to the program at {0:#x}",
    Asked.PIN: "pins {1} pages of the program from {0:#x} on",
    Asked.PIN_FILE: "pins {2} pages of a file from offset {1:#x} on",
    Asked.FILE: "looks at the program's descriptor {0}",
    Asked.DESCRIPTOR: "takes the program's descriptor {0}",
    Asked.INSTALL: "gives the program a descriptor",
    Asked.UNINSTALL: "takes descriptor {0} back from the program",
    Asked.ALIVE: "looks whether the program lives",
    Asked.ACCOUNT: "looks at the program's limits",
}
NOBODY_MINDS = frozenset({Asked.ALIVE, Asked.ACCOUNT})
"""What may be asked once more, or once less: it changes nothing."""


@define(eq=False)
class Sides:
    """Answers of one event, in order. ``strange`` is the first thing that was asked otherwise."""

    _sides: Sequence[Side]
    strange: str | None = None
    written: list[tuple[int, bytes, bytes]] = field(factory=list)
    """Where something else was written to the program than the recorded run wrote: address, its bytes, ours."""
    _next: int = 0

    def take(self, kind: Asked, *asked: int) -> Side | None:
        """Give the recorded answer; None where this was not asked."""
        found = self._find(kind, asked)
        if found is None:
            if kind not in NOBODY_MINDS:
                self._note(f"{_told(kind, asked)}, which the recorded run did not")
            return None
        skipped = [side for side in self._sides[self._next : found] if side.kind not in NOBODY_MINDS]
        if skipped:
            self._note(f"no longer {_told(skipped[0].kind, skipped[0].asked)}")
        self._next = found + 1
        return self._sides[found]

    def end(self) -> None:
        """Take note that nothing more is asked."""
        left = [side for side in self._sides[self._next :] if side.kind not in NOBODY_MINDS]
        if left:
            self._note(f"no longer {_told(left[0].kind, left[0].asked)}")

    def _find(self, kind: Asked, asked: tuple[int, ...]) -> int | None:
        for index in range(self._next, len(self._sides)):
            if self._sides[index].kind is kind and self._sides[index].asked == asked:
                return index
        return None

    def _note(self, text: str) -> None:
        if self.strange is None:
            self.strange = text


def _told(kind: Asked, asked: tuple[int, ...]) -> str:
    try:
        return TOLD[kind].format(*asked)
    except IndexError:  # a file says so that was not written by us
        return kind.value
