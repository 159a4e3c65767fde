"""Executes what is described of commands: whole runs, up to the first that is the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

from viommu._engine import Translator
from viommu.commands.compiled import compiled
from viommu.commands.interpreter import Interpreted

if TYPE_CHECKING:
    from viommu.backing import BufferLike
    from viommu.commands.meanings import Meanings
    from viommu.platform import Platform

MOST_AT_ONCE = 4096
"""Commands of one call of the engine: between calls, Python may notice that somebody wants to stop it."""


class Commands(Protocol):
    """A description that can be executed: the engine's form, or Python's where caches are not the engine's."""

    def run(self, caches: Any, entries: BufferLike, /) -> tuple[int, dict[str, int]]:  # noqa: ANN401 # of its own kind
        """Execute what lies in a buffer."""

    def run_ring(
        self,
        caches: Any,  # noqa: ANN401
        base: int,
        entries_lg2: int,
        head: int,
        count: int,
        /,
    ) -> tuple[int, dict[str, int]]:
        """Execute what lies in a ring."""


@define(eq=False)
class Executor:
    """Executes described commands on a platform's caches, from a ring in memory or from a buffer.

    Both calls give how many commands were executed, and how many of each name (an empty mapping for none). The command
    after those is the model's: refused, or something that has no neutral action. A machine whose memory is watched (the
    sanitizer does) leaves stores to the model as well.
    """

    platform: Platform
    meanings: Meanings
    _storing: Commands | None = field(default=None, init=False)
    _not_storing: Commands | None = field(default=None, init=False)

    def understand(self, meanings: Meanings) -> None:
        """Go on with another description."""
        if meanings is not self.meanings:
            self.meanings = meanings
            self._storing = self._not_storing = None

    def run_ring(self, base: int, entries_lg2: int, head: int, count: int) -> tuple[int, dict[str, int]]:
        """Execute up to ``count`` of the 2^``entries_lg2`` commands at ``base`` (bytes), from index ``head`` on."""
        platform = self.platform
        commands = (self._storing if platform.memory.watcher is None else self._not_storing) or self._compiled()
        if count <= MOST_AT_ONCE:
            return commands.run_ring(platform.caches, base, entries_lg2, head, count)
        done, kinds = commands.run_ring(platform.caches, base, entries_lg2, head, MOST_AT_ONCE)
        ran = done
        while ran == MOST_AT_ONCE and done < count:
            left = min(count - done, MOST_AT_ONCE)
            ran, more = commands.run_ring(platform.caches, base, entries_lg2, head + done, left)
            done += ran
            kinds = {name: kinds.get(name, 0) + more.get(name, 0) for name in kinds | more}
        return done, kinds

    def run(self, entries: BufferLike) -> tuple[int, dict[str, int]]:
        """Execute commands that lie one after the other. ValueError where the bytes are no whole number of them."""
        platform = self.platform
        commands = (self._storing if platform.memory.watcher is None else self._not_storing) or self._compiled()
        return commands.run(platform.caches, entries)

    def _compiled(self) -> Commands:
        """Take what is described now into use, for memory as it is watched now, and for the caches that there are."""
        stores = self.platform.memory.watcher is None
        made: Commands = Interpreted(self.meanings, self.platform.memory)
        if isinstance(self.platform.caches, Translator):
            made = compiled(self.meanings, stores=stores)
        if stores:
            self._storing = made
        else:
            self._not_storing = made
        return made
