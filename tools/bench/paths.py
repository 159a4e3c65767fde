"""What is measured: paths in this process and in the C++ programs, each once a round."""

from __future__ import annotations

import gc
import json
import subprocess
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path as File
    from typing import Self


def _nothing() -> None:
    pass


@frozen
class Path:
    """One path: ``run`` gives how many operations it did; ``prepare`` is not measured.

    ``figure`` gives what was measured otherwise, instead of ``run``.
    """

    name: str
    run: Callable[[], int] = int
    prepare: Callable[[], object] = _nothing
    figure: Callable[[], float] | None = None

    def measured(self) -> float:
        """Give the nanoseconds of one operation (thread CPU time), after a run that is not measured."""
        if self.figure is not None:
            return self.figure()
        self.prepare()
        self.run()
        self.prepare()
        before = thread_time_ns()
        operations = self.run()
        return (thread_time_ns() - before) / operations


class Source(Protocol):
    """Whoever measures some paths of a group."""

    def round(self) -> dict[str, float]:
        """Measure each path once: nanoseconds of one operation, by name."""


@define
class Here:
    """Paths of this process, forwards in one round and backwards in the next: none always follows the same one."""

    paths: list[Path]
    _backwards: bool = field(default=False, init=False)

    def round(self) -> dict[str, float]:
        """Measure each; nobody collects garbage meanwhile."""
        paths = self.paths[::-1] if self._backwards else self.paths
        self._backwards = not self._backwards
        gc.disable()
        try:
            return {path.name: path.measured() for path in paths}
        finally:
            gc.enable()


@define(eq=False)
class Program:
    """One group of a C++ program (cpp/bench/rounds.hpp says how it is spoken to)."""

    file: File
    group: str
    prefix: str = ""
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 # ours
            [self.file, self.group], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def round(self) -> dict[str, float]:
        """Have the program measure each of its paths. Raises RuntimeError where it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.file} ended within its group {self.group!r}: run it by hand to see why")
        return {self.prefix + name: ns for name, ns in json.loads(line).items()}


def groups_of(program: File) -> list[str]:
    """Ask a program for its groups."""
    return subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()  # noqa: S603


@frozen
class Measured:
    """The rounds of one path."""

    ns: list[float]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return median(self.ns)

    def as_json(self) -> dict[str, float]:
        """Say it as the report does."""
        return {"median": round(self.median, 3), "min": round(min(self.ns), 3), "max": round(max(self.ns), 3)}


def measure(sources: Iterable[Source], rounds: int) -> dict[str, Measured]:
    """Let every source measure once a round; the first round is thrown away."""
    sources = list(sources)
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for source in sources:
            for name, ns in source.round().items():
                if number:
                    found.setdefault(name, []).append(ns)
    return {name: Measured(ns) for name, ns in found.items()}
