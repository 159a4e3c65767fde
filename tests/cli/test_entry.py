from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.core.captured import RECORDINGS
from viommu.cli import drivers as drivers_module
from viommu.cli import entry, main

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Run
    from tests.core.installed import Shelf

REPLAY = (sys.executable, "-m", "viommu", "replay", str(RECORDINGS / "vtd-scalable-fs"), "--section", "mutations")


def test_the_version_is_that_of_the_distribution(run: Run) -> None:
    code, out, err = run("--version")

    assert (code, err) == (0, "")
    assert out.startswith("viommu, version ")


def test_no_command_shows_help(run: Run) -> None:
    code, out, _ = run()

    assert code == 0
    assert "replay" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "No such command 'nope'"),
        (("replay",), "Missing argument 'PATH...'"),
        (("--nope",), "No such option"),
    ],
)
def test_what_is_no_command_is_told_in_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_reader_that_leaves_early_ends_the_command_quietly() -> None:
    process = subprocess.Popen(REPLAY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()


def interrupted() -> None:
    raise KeyboardInterrupt


def interrupted_import() -> None:
    try:
        interrupted()
    except KeyboardInterrupt as interrupt:
        raise ImportError("initialization failed") from interrupt


@pytest.mark.parametrize("discover", [interrupted, interrupted_import])
def test_an_interrupt_ends_the_command_quietly(
    run: Run, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, discover: Callable[[], None]
) -> None:
    assert shelf.entries
    monkeypatch.setattr(drivers_module, "discover", discover)

    assert run("drivers") == (130, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run((*REPLAY[:3], "drivers"), stdout=full, stderr=subprocess.PIPE, check=False)

    assert (done.returncode, done.stderr) == (2, b"viommu: No space left on device\n")


def test_a_bug_of_ours_is_told_in_one_line_unless_it_is_looked_for(
    run: Run, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oh\nno")

    assert shelf.entries
    monkeypatch.setattr(drivers_module, "discover", broken)

    code, out, err = run("drivers")

    assert (code, out) == (2, "")
    assert err == "viommu: internal error, ZeroDivisionError: oh no (set VIOMMU_DEBUG=1 to see where)\n"
    monkeypatch.setenv(entry.DEBUG, "1")
    with pytest.raises(ZeroDivisionError):
        main(["drivers"])


def test_a_missing_engine_is_told_with_what_to_do() -> None:
    script = (
        "import sys; sys.modules['viommu._engine'] = None; import viommu.cli; sys.exit(viommu.cli.main(['drivers']))"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
