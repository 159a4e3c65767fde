"""A recording, as it is read: a machine, programs, and what happened, all of it checked."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from attrs import evolve

from viommu.errors import BadField
from viommu.service.config import MachineConfig
from viommu.service.recording.contents import MOST_KEPT, PIECE
from viommu.service.recording.events import BadLine, Event, What
from viommu.service.recording.lines import LineReader
from viommu.service.recording.recorder import FORMAT, QUESTIONS
from viommu.service.rerun.files import MOST_COPIED, Content
from viommu.vfio.devices import Plug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OPS = {what: op for op, what in QUESTIONS.items()}
MOST_FILES, MOST_PIECES = 16, MOST_KEPT // PIECE
WORDS = {What.STORES: 1, What.WORK: 2, What.CLOSE: 1, What.UNMAP: 0} | dict.fromkeys(QUESTIONS.values(), 4)
"""How many words an event must have."""


class Recording:
    """A file, read from its start: first what machine it is, then what happened."""

    def __init__(self, path: Path) -> None:
        """Read the machine. Raises BadRecording, OSError."""
        self.reader = LineReader(path)
        self._lines: Iterator[dict[str, Any]] = iter(self.reader)
        head = next(self._lines, {})
        if head.get("viommu") != "recording" or not isinstance(head.get("machine"), dict):
            raise self.reader.bad("does not tell of a machine: it was not written by `viommu run --record`")
        if head.get("format") != FORMAT:
            raise self.reader.bad(f"is of another format than {FORMAT}")
        self.programs: dict[int, str] = {}
        self.contents: dict[str, Content] = {}
        """What files held that devices were given, by the paths that the machine's options name."""
        try:
            self.machine = MachineConfig.parse(head["machine"])
        except BadField as error:
            raise self.reader.bad(f"tells of no machine: {error}") from error
        self._read_contents()

    def config(
        self, driver: str | None = None, other: MachineConfig | None = None, plugs: Sequence[str] = ()
    ) -> MachineConfig:
        """Say which machine to repeat it on: the recorded one, another, or one with another driver, or other devices.

        Raises BadRecording: the recorded one has a device that is a file of Python, which nobody should run unseen.
        """
        config = self.machine if other is None else other
        if plugs:
            config = evolve(config, devices=tuple(Plug.parse(plug) for plug in plugs))
        elif other is None or not other.devices:
            config = evolve(config, devices=self.machine.devices)
            for plug in config.devices:
                if plug.model.endswith(".py"):
                    raise self.reader.bad(f"has a device {plug.model[:80]!r}: give it by --device to have it run")
        if driver is None or driver == config.driver:
            return config
        return evolve(config, driver=driver, registers={})

    def events(self) -> Iterator[Event]:
        """Give what happened. Raises BadRecording, OSError."""
        for line in self._lines:
            if "program" in line:
                self._program(line)
            elif "end" not in line:
                yield self._event(line)

    def _read_contents(self) -> None:
        for line in self._lines:
            if "content" not in line:
                self._lines = chain((line,), self._lines)
                return
            self._content(line)

    def _content(self, line: dict[str, Any]) -> None:
        path, size, digest = line.get("content"), line.get("size"), line.get("sha256")
        if type(size) is int and isinstance(path, str) and isinstance(digest, str):
            if not 0 <= size <= MOST_COPIED or len(self.contents) >= MOST_FILES:
                raise self.reader.bad(f"tells of files beyond {MOST_FILES} of {MOST_COPIED} bytes each")
            self.contents[path] = Content(size, digest[:64])
            return
        content = self.contents.get(path) if isinstance(path, str) else None
        at, data = line.get("at"), line.get("data")
        if content is None or not (line.get("cut") or (type(at) is int and isinstance(data, str))):
            raise self.reader.bad("does not tell what a file holds")
        if line.get("cut"):
            content.is_cut = True
            content.pieces.clear()
        elif isinstance(at, int) and isinstance(data, str):
            self._piece(content, at, data)

    def _piece(self, content: Content, at: int, data: str) -> None:
        try:
            piece = bytes.fromhex(data)
        except ValueError as error:
            raise self.reader.bad("has bytes that are none") from error
        held = sum(map(len, content.pieces.values())) + len(piece)
        if not 0 <= at <= content.size - len(piece) or held > MOST_KEPT or len(content.pieces) >= MOST_PIECES:
            raise self.reader.bad("tells more of a file than it holds")
        content.pieces[at] = piece

    def _program(self, line: dict[str, Any]) -> None:
        number, pid, name = line.get("program"), line.get("pid"), line.get("name")
        if type(number) is not int or type(pid) is not int or not isinstance(name, str):
            raise self.reader.bad("does not tell of a program")
        self.programs[number] = f"{name[:40]} (process {pid})"

    def _event(self, line: dict[str, Any]) -> Event:
        try:
            event = Event.of_json(line)
        except BadLine as error:
            raise self.reader.bad(str(error)) from error
        if len(event.words) < WORDS[event.what]:
            raise self.reader.bad("has too few words")
        if event.what in OPS and event.by not in self.programs:
            raise self.reader.bad("is of a program that was not told of")
        return event
