"""Executes what is described of commands: whole runs in the engine, up to the first that is the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu._engine import Translator
from viommu.commands.compiled import compiled
from viommu.commands.interpreter import interpret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu._engine import CommandSet
    from viommu.backing import BufferLike
    from viommu.commands.meanings import Meanings
    from viommu.platform import Platform

MOST_AT_ONCE = 4096
"""Commands of one call of the engine: between calls, Python may notice that somebody wants to stop it."""


@define(eq=False)
class Executor:
    """Executes described commands on a platform's caches, from a ring in memory or from a buffer.

    Both calls give how many commands were executed, and how many of each name (an empty mapping for none). The command
    after those is the model's: refused, or something that has no neutral action. A machine whose memory is watched (the
    sanitizer does) leaves stores to the model as well.
    """

    platform: Platform
    meanings: Meanings
    _storing: CommandSet | None = field(default=None, init=False)
    _not_storing: CommandSet | None = field(default=None, init=False)

    def understand(self, meanings: Meanings) -> None:
        """Go on with another description."""
        if meanings is not self.meanings:
            self.meanings = meanings
            self._storing = self._not_storing = None

    def run_ring(self, base: int, entries_lg2: int, head: int, count: int) -> tuple[int, dict[str, int]]:
        """Execute up to ``count`` commands of a ring of 2^``entries_lg2``, from index ``head`` on."""
        caches = self.platform.caches
        if not isinstance(caches, Translator):
            size = self.meanings.size
            addresses = (base + (head + index & (1 << entries_lg2) - 1) * size for index in range(count))
            return self._interpret(self.platform.memory.read(address, size) for address in addresses)
        done, kinds = self._set().run_ring(caches, base, entries_lg2, head, min(count, MOST_AT_ONCE))
        ran = done
        while ran == MOST_AT_ONCE and done < count:
            left = min(count - done, MOST_AT_ONCE)
            ran, more = self._set().run_ring(caches, base, entries_lg2, head + done, left)
            done += ran
            kinds = {name: kinds.get(name, 0) + more.get(name, 0) for name in kinds | more}
        return done, kinds

    def run(self, entries: BufferLike) -> tuple[int, dict[str, int]]:
        """Execute commands that lie one after the other. ValueError where the bytes are no whole number of them."""
        caches = self.platform.caches
        if isinstance(caches, Translator):
            return self._set().run(caches, entries)
        raw, size = memoryview(entries).cast("B"), self.meanings.size  # type: ignore[arg-type] # an array is a buffer
        if len(raw) % size:
            raise ValueError(f"{len(raw)} bytes are no multiple of {size}, the size of a command")
        return self._interpret(bytes(raw[at : at + size]) for at in range(0, len(raw), size))

    def _set(self) -> CommandSet:
        if self.platform.memory.watcher is None:
            if self._storing is None:
                self._storing = compiled(self.meanings)
            return self._storing
        if self._not_storing is None:
            self._not_storing = compiled(self.meanings, stores=False)
        return self._not_storing

    def _interpret(self, entries: Iterable[bytes | None]) -> tuple[int, dict[str, int]]:
        done, kinds = 0, dict[str, int]()
        for entry in entries:
            if entry is None:
                break
            name = interpret(self.meanings, entry, self.platform.caches, self.platform.memory)
            if name is None:
                break
            done += 1
            kinds[name] = kinds.get(name, 0) + 1
        return done, kinds
