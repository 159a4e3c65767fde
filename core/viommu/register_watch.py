"""Registers that software stores to without a call: pages of shared memory, and the thread that watches them.

A store to such a page tells nobody. A watcher of the engine compares what each register shows with what hardware put
there last; what differs is a store of software's, and is carried out as one. Then the page shows what hardware has.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from functools import cached_property
from threading import RLock, Thread, get_ident
from typing import TYPE_CHECKING, Protocol

import structlog
from attrs import define, field, frozen

from viommu import _engine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = ["RegisterWatch", "SharedPage", "SharedWord"]

log = structlog.get_logger()

NOTHING: frozenset[int] = frozenset()


class _Registers(Protocol):
    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


@frozen
class SharedWord:
    """One register of a page that is shared memory: ``size`` (4 or 8) bytes at ``offset``, a multiple of it.

    A driver may declare one if storing the value that it shows already means nothing: a tail, a switch, an
    acknowledgement by toggling, or what software can only read. Of bits that a 1 clears that is not so: a store of just
    what is shown goes unseen. Hardware that changes what a word shows, other than in answer to a store, tells the
    platform afterwards (`viommu.platform.Platform.observe`), or raises an interrupt.

    Stores that are seen together are carried out in the order in which the words are declared, but those of zero to a
    word that ``stops`` hardware come first. What a store changes are words of its ``group``; of others hardware tells.
    """

    offset: int
    size: int = 4
    stops: bool = False
    group: int = 0


@define(eq=False)
class SharedPage:
    """A page, or some, of registers in shared memory; a machine's `RegisterWatch` makes it.

    What no word covers is plain memory. ``told`` is called with the number of stores that were found.
    """

    registers: _Registers
    words: tuple[SharedWord, ...]
    engine: _engine.RegisterPage = field(repr=False)
    told: Callable[[int], None] = field(repr=False)
    around: Callable[[SharedPage, Sequence[tuple[int, int, int]]], AbstractContextManager[object]] | None = None
    """Is put around stores that are carried out, told each: offset, size, value."""
    _lock: RLock = field(factory=RLock, repr=False)
    """Held while stores are carried out."""
    _closed: bool = False

    @classmethod
    def of(
        cls, registers: _Registers, length: int, words: Sequence[SharedWord], told: Callable[[int], None]
    ) -> SharedPage:
        """Make the memory. Raises ValueError (length, words), OSError (no memory, or no descriptor, for it)."""
        engine = _engine.RegisterPage(length, [(word.offset, word.size) for word in words])
        made = cls(registers, tuple(words), engine, told)
        made.show()
        return made

    @property
    def fd(self) -> int:
        """A descriptor of the memory, the page's own, for whoever maps it elsewhere."""
        return self.engine.fd

    @property
    def memory(self) -> memoryview:
        """The memory."""
        return memoryview(self.engine)

    def settle(self) -> None:
        """Carry out what software has stored, and show what hardware has then."""
        self.carry_out()
        self.show()

    def carry_out(self) -> frozenset[int]:
        """Carry out what software has stored; which groups it stored to."""
        with self._lock:
            stored = () if self._closed else self.engine.take()
            if not stored:
                return NOTHING
            self._carry_out([(word.offset, word.size, value) for word, value in self._in_order(stored)])
        return frozenset(self.words[index].group for index, _ in stored)

    def _carry_out(self, stores: Sequence[tuple[int, int, int]]) -> None:
        self.told(len(stores))
        with nullcontext() if self.around is None else self.around(self, stores):
            self.store(stores)

    def store(self, stores: Iterable[tuple[int, int, int]]) -> None:
        """Carry out stores (offset, size, value)."""
        for offset, size, value in stores:
            self.registers.write(offset, value.to_bytes(size, "little"))

    def show(self, groups: Collection[int] | None = None) -> None:
        """Show what hardware has now, in some groups or all; any thread may, with whatever locks."""
        for index, word in enumerate(self.words):
            if groups is None or word.group in groups:
                while not self._showed(index, word):
                    pass  # another thread has shown something else meanwhile: hardware may have changed since

    def close(self) -> None:
        """Carry out no store any more; what is being carried out is waited for."""
        with self._lock:
            self._closed = True

    def _in_order(self, stored: Iterable[tuple[int, int]]) -> list[tuple[SharedWord, int]]:
        words = [(self.words[index], value) for index, value in stored]
        return sorted(words, key=lambda one: not (one[0].stops and not one[1]))

    def _showed(self, index: int, word: SharedWord) -> bool:
        before = self.engine.shown(index)
        value = int.from_bytes(self.registers.read(word.offset, word.size), "little")
        return value == before or self.engine.show(index, before, value)


class RegisterWatch:
    """Watches the shared pages of a machine, by one thread that is there from the first page on.

    ``around`` is given to each page that comes.
    """

    around: Callable[[SharedPage, Sequence[tuple[int, int, int]]], AbstractContextManager[object]] | None = None

    def __init__(self) -> None:
        """Begin with no page, and no thread."""
        self._pages = _Pages()
        self._lock = RLock()
        self._end: Callable[[], object] | None = None

    @cached_property
    def _engine(self) -> _engine.RegisterWatch:
        return _engine.RegisterWatch()

    def add(self, page: SharedPage) -> None:
        """Watch a page from now on."""
        page.around = self.around
        with self._lock:
            self._pages.append(page)
            self._engine.add(page.engine)
            if self._end is None:  # a thread that waits in the engine must have ended before the interpreter does
                thread = Thread(target=_watch, args=(self._engine, self._pages), name="viommu registers", daemon=True)
                thread.start()
                self._end = weakref.finalize(self, _end, self._engine, thread)

    def remove(self, page: SharedPage) -> None:
        """Watch a page no more; what is being carried out is waited for."""
        self._engine.remove(page.engine)
        with self._lock:
            self._pages.remove(page)
        page.close()

    def take_turns(self, turn: AbstractContextManager[object]) -> None:
        """Hold something, outside of all locks, whenever stores are carried out."""
        self._pages.turn = turn

    def changed(self) -> None:
        """Take note that hardware may have other values than are shown; any thread may, with whatever locks."""
        if self._pages and get_ident() not in self._pages.carrying_out:  # who shows anyway what it changes
            self._pages.is_stale = True
            self._engine.touch()

    def observe(self, _event: str, _facts: Mapping[str, object]) -> None:
        """Take note that something happened in hardware (a `viommu.board.Observer`)."""
        self.changed()

    def show(self) -> None:
        """Show now what hardware has; any thread may, with whatever locks."""
        if self._pages:
            for page in tuple(self._pages):
                page.show()

    def settle(self) -> None:
        """Carry out now what software has stored, and show what has changed.

        Not for who holds a lock that carrying out takes.
        """
        if self._pages:
            self._pages.settle()

    def close(self) -> None:
        """End the thread."""
        if self._end is not None:
            self._end()


class _Pages(list[SharedPage]):
    """The pages of a watch.

    ``carrying_out`` are threads that do so, ``turn`` what they hold then. ``is_stale``: hardware may have changed.
    """

    turn: AbstractContextManager[object] = nullcontext()
    is_stale: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.carrying_out: set[int] = set()

    def settle(self) -> None:
        """Carry out all stores, and show what changed; no page suffers where the driver of another fails."""
        with self.turn:
            is_stale = self.is_stale
            if is_stale:  # what is told after it was looked at stays told
                self.is_stale = False
            for page in tuple(self):
                try:
                    self._settle(page, is_stale=is_stale)
                except Exception:
                    log.exception("stores to registers could not be carried out", registers=repr(page.registers))

    def _settle(self, page: SharedPage, *, is_stale: bool) -> None:
        self.carrying_out.add(get_ident())
        try:
            groups = page.carry_out()
        except Exception:
            page.show()
            raise
        finally:
            self.carrying_out.discard(get_ident())
        if groups or is_stale:
            page.show(None if is_stale else groups)


def _watch(engine: _engine.RegisterWatch, pages: _Pages) -> None:
    while engine.wait():
        pages.settle()


def _end(engine: _engine.RegisterWatch, thread: Thread) -> None:
    engine.end()
    thread.join()
