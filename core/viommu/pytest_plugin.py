"""Fixtures for those who test a program on emulated hardware; pytest finds them wherever viommu is installed."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu.service.config import Made

__all__ = ["MakesMachines", "RunsPrograms", "viommu_machine", "viommu_run"]

SECONDS = 60.0

OPTIONS = {
    "--viommu-effort": ("VIOMMU_CONFORM_EFFORT", "how hard `DriverContract` asks: 1 is as viommu conform does"),
    "--viommu-seed": ("VIOMMU_CONFORM_SEED", "which examples `DriverContract` draws"),
}
"""Options of pytest, by the variables that they set (`viommu.testing.contract`)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options of the conformance kit."""
    group = parser.getgroup("viommu")
    for option, (_, text) in OPTIONS.items():
        group.addoption(option, type=float if option.endswith("effort") else int, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Take the options that are given."""
    for option, (variable, _) in OPTIONS.items():
        value = config.getoption(option)
        if value is not None:
            os.environ[variable] = str(value)


class MakesMachines(Protocol):
    """What `viommu_machine` is."""

    def __call__(
        self, config: str | Path | None = None, *, driver: str | None = None, devices: tuple[str, ...] = ()
    ) -> Made:
        """Make a machine, which is closed when the test ends: it (``machine``), and its ``devices``.

        ``config``: a file that describes it; ``driver``: whose IOMMU it has (default: selftest); ``devices``: what is
        plugged in, as `viommu run --device` takes it. Raises as `viommu.service.config.MachineConfig`.
        """


class RunsPrograms(Protocol):
    """What `viommu_run` is."""

    def __call__(
        self, *program: str | Path, machine: Made | None = None, timeout: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a machine (None: one with the selftest driver): its status, output and errors, as text.

        ``timeout`` is in seconds. Raises subprocess.TimeoutExpired.
        """


# pytest loads this module wherever it runs, and mostly for nothing: the rest is imported by who uses it.


@pytest.fixture
def viommu_machine() -> Iterator[MakesMachines]:
    """Make machines for programs to run on."""
    from viommu.service.config import MachineConfig  # noqa: PLC0415

    with ExitStack() as closing:

        def make(config: str | Path | None = None, *, driver: str | None = None, devices: tuple[str, ...] = ()) -> Made:
            described = MachineConfig() if config is None else MachineConfig.load(Path(config))
            made = described.changed(driver, devices).make()
            closing.enter_context(made.machine)
            return made

        yield make


@pytest.fixture
def viommu_run(viommu_machine: MakesMachines) -> RunsPrograms:
    """Run programs that find /dev/iommu and devices."""
    from viommu.service.run import served  # noqa: PLC0415

    def run(
        *program: str | Path, machine: Made | None = None, timeout: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in program]
        with served(*(machine or viommu_machine())) as found:
            whole = {**os.environ, **found}
            return subprocess.run(words, env=whole, text=True, capture_output=True, timeout=timeout, check=False)  # noqa: S603

    return run
