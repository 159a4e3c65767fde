"""Programs that no library can be put in front of: `viommu run` says so, and the log of those that a program starts."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from shutil import copy, which
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from viommu.service.executables import why_not_preloadable
from viommu.service.notes import EVENTS
from viommu.service.wire import Note

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

SOURCE = "int main(void) { return 7; }"
NOBODY = 65534
BORROWED = 3
"""Where a child on its parent's memory started the program."""
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One program, linked in several ways."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "main.c").write_text(SOURCE, encoding="ascii")
    ways = {
        "dynamic": [],
        "static": ["-static"],
        "static-pie": ["-static-pie"],
        "musl": ["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
    }
    for name, options in ways.items():
        words = [which("gcc") or "gcc", *options, "-o", str(folder / name), str(folder / "main.c")]
        subprocess.run(words, check=True)
    return {name: folder / name for name in ways}


def script(path: Path, first: str) -> Path:
    path.write_text(f"#!{first}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def viommu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "viommu", *map(str, words)]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("dynamic", None), ("static", "it is static"), ("static-pie", "it is static"), ("musl", "it is linked with musl")],
)
def test_the_way_a_program_is_linked_decides(compiled: dict[str, Path], name: str, reason: str | None) -> None:
    found = why_not_preloadable(compiled[name])
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_programs_of_other_processors_are_told(compiled: dict[str, Path], tmp_path: Path) -> None:
    raw = bytearray(compiled["dynamic"].read_bytes())
    struct.pack_into("<H", raw, 18, 243)  # e_machine: RISC-V
    (tmp_path / "other").write_bytes(raw)
    assert "another processor" in (why_not_preloadable(tmp_path / "other") or "")


def test_a_script_is_as_its_interpreter(compiled: dict[str, Path], tmp_path: Path) -> None:
    assert why_not_preloadable(script(tmp_path / "one", "/bin/sh -e")) is None
    assert why_not_preloadable(script(tmp_path / "two", "/usr/bin/env -S A=1 sh -e")) is None
    static = script(tmp_path / "three", f" {compiled['static']}")
    reason = f"its interpreter {compiled['static']} is static: it loads no library"
    assert why_not_preloadable(static) == reason
    nested = script(tmp_path / "four", str(static))
    assert reason in (why_not_preloadable(nested) or "")
    assert why_not_preloadable(script(tmp_path / "loop", str(tmp_path / "loop"))) is None


@is_root
@pytest.mark.parametrize(("mode", "reason"), [(0o4755, "it is setuid"), (0o2755, "it is setgid"), (0o755, None)])
def test_programs_that_give_rights_are_told(
    compiled: dict[str, Path], tmp_path: Path, mode: int, reason: str | None
) -> None:
    path = Path(copy(compiled["dynamic"], tmp_path / "other"))
    os.chown(path, NOBODY, NOBODY)
    path.chmod(mode)
    found = why_not_preloadable(path)
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_rights_that_one_has_already_change_nothing(compiled: dict[str, Path], tmp_path: Path) -> None:
    path = Path(copy(compiled["dynamic"], tmp_path / "own"))
    path.chmod(0o6755)
    assert why_not_preloadable(path) is None


@example(raw=b"\0", begins=b"#!")
@given(raw=st.binary(max_size=256), begins=st.sampled_from([b"", b"#!", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01"]))
def test_no_file_is_too_strange(tmp_path_factory: pytest.TempPathFactory, raw: bytes, begins: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "strange"
    path.write_bytes(begins + raw)
    assert isinstance(why_not_preloadable(path), str | None)


def test_what_is_not_there_is_for_others_to_tell(tmp_path: Path) -> None:
    assert why_not_preloadable(tmp_path / "nothing") is None
    assert why_not_preloadable(tmp_path) is None
    os.mkfifo(tmp_path / "pipe")
    assert why_not_preloadable(tmp_path / "pipe") is None  # without waiting for whoever writes


@pytest.mark.parametrize("name", ["static", "musl"])
def test_running_such_a_program_is_refused_in_one_line(compiled: dict[str, Path], name: str) -> None:
    done = viommu("run", "--", compiled[name])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("viommu: program ")
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


WAYS = [
    "execve",
    "execv",
    "execvp",
    "execvpe",
    "execl",
    "execlp",
    "execle",
    "execveat",
    "descriptor",
    "fexecve",
    "number",
    "number-at",
    "vfork",
    "posix_spawn",
    "posix_spawnp",
]


@pytest.mark.parametrize("way", WAYS)
def test_the_log_tells_of_children_without_the_library(
    run: Callable[..., subprocess.CompletedProcess[str]],
    client: Callable[[str], Path],
    compiled: dict[str, Path],
    way: str,
) -> None:
    with capture_logs() as logs:
        assert run(client("starts"), way, compiled["dynamic"]).returncode in {7, BORROWED}
        assert not told(logs)
        assert run(client("starts"), way, compiled["static"]).returncode in {7, BORROWED}
    (program,) = told(logs)
    assert program.endswith(": it is static")


def test_the_log_tells_of_children_whose_environment_was_emptied(
    run: Callable[..., subprocess.CompletedProcess[str]], client: Callable[[str], Path], compiled: dict[str, Path]
) -> None:
    with capture_logs() as logs:
        assert run(client("starts"), "forgetful", compiled["dynamic"]).returncode == 7
    (program,) = told(logs)
    assert program.endswith("dynamic: it is started without LD_PRELOAD")


def told(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [entry["program"] for entry in logs if entry["event"] == EVENTS[Note.NOT_LOADABLE]]
