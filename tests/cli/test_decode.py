from __future__ import annotations

import io
import json
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import ShellComplete

from tests.core.talking_toy import TalkingToy
from viommu.cli.app import app

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from tests.cli.conftest import Run
    from tests.core.installed import Shelf

ONE_LINE = "toy 0: fault at 0x5010 of device 03, code 04"
LOG = f"""\
[    1.000000] usb 1-1: new high-speed USB device
[    2.000000] toy 0: record received:
[    2.000001] toy 0: \t0x0000000000006010
[    2.000002] usb 1-1: \x1b[31mgone
[    2.000003] toy 0: \t0xff00000400000003
[    3.000000] {ONE_LINE}
[    4.000000] {ONE_LINE}
"""


@pytest.fixture
def talking(shelf: Shelf) -> Shelf:
    """Give a toy that explains its bytes, in place of the silent one."""
    shelf.entries.clear()
    shelf.install("toy", TalkingToy())
    return shelf


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    made = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=made))
    return made


def pipe(stdin: io.BytesIO, data: str | bytes) -> None:
    stdin.write(data.encode() if isinstance(data, str) else data)
    stdin.seek(0)


pytestmark = pytest.mark.usefixtures("talking")


def test_bytes_are_explained(run: Run, snapshot: SnapshotAssertion) -> None:
    code, out, err = run("decode", "toy", "command", "0x0000000700000002", "0x0000000000005000")

    assert (code, err) == (0, "")
    assert out == snapshot


def test_reserved_bits_are_told_and_are_no_error(run: Run, snapshot: SnapshotAssertion) -> None:
    code, out, err = run("decode", "toy", "event", "0x5010", "0xff00000400000003")

    assert (code, err) == (0, "")
    assert out == snapshot


def test_a_log_explains_itself(run: Run, stdin: io.BytesIO, snapshot: SnapshotAssertion) -> None:
    pipe(stdin, LOG)

    code, out, err = run("decode", "-")

    assert (code, err) == (0, "")
    assert out == snapshot


@pytest.mark.parametrize(
    "arguments", [(ONE_LINE,), ("[1.0]", *ONE_LINE.split()), ("toy", ONE_LINE), ("toy", "event", ONE_LINE)]
)
def test_a_log_line_may_be_an_argument(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, _ = run("decode", "--json", *arguments)

    assert code == 0
    [found] = json.loads(out)["decoded"]
    assert (found["driver"], found["kind"], found["name"]) == ("toy", "event", "PERMISSION")
    assert found["lines"] == [ONE_LINE]
    assert found["count"] == 1


def test_bytes_may_come_from_stdin(run: Run, stdin: io.BytesIO) -> None:
    pipe(stdin, "00000000: 0200 0000 0700 0000 0050 0000 0000 0000  .........P......\n")

    code, out, _ = run("decode", "toy", "command", "-", "--json")

    assert code == 0
    assert json.loads(out)["decoded"][0]["name"] == "INVALIDATE_PAGES"


def test_a_log_may_be_limited_to_one_driver(run: Run, stdin: io.BytesIO) -> None:
    pipe(stdin, b"\xff\xfe\n" + LOG.encode())

    code, out, _ = run("decode", "toy", "-", "--json")

    assert code == 0
    assert [found["count"] for found in json.loads(out)["decoded"]] == [1, 2]


def test_the_most_significant_word_may_come_first(run: Run) -> None:
    code, out, _ = run("decode", "toy", "event", "--msb-first", "0x0000000400000003", "0x5010", "--json")

    assert code == 0
    assert json.loads(out)["decoded"][0]["fields"]["InputAddr"]["value"] == "0x5010"


def test_all_kinds_are_listed(run: Run, snapshot: SnapshotAssertion) -> None:
    assert run("decode", "--list") == snapshot
    assert run("decode", "--list", "toy") == run("decode", "--list")


def test_the_list_has_a_json_form(run: Run) -> None:
    _, out, _ = run("decode", "--list", "--json")

    assert json.loads(out) == {
        "drivers": [
            {"name": "toy", "kinds": {"command": [16, 32], "event": [16], "Device": [16], "entry": [8], "CTRL": [4]}}
        ]
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "'': nothing to decode: give hexadecimal, key=value pairs, a log line, or - for stdin"),
        (("toy",), "'': nothing to decode: give hexadecimal, key=value pairs, a log line, or - for stdin"),
        (("toy", "event"), "'': nothing to decode: give hexadecimal, key=value pairs, a log line, or - for stdin"),
        (("toy", "evnt", "0"), "explains no kind 'evnt' (did you mean event? `viommu decode --list toy` names all)"),
        (("toy", "0x123"), "driver toy explains no kind '0x123' (`viommu decode --list toy` names all)"),
        (
            ("toy", "event", "0x1"),
            "'0x1': it is 8 bytes (1 word of 64 bits) or 4 bytes (1 word of 32 bits), and event ",
        ),
        (("toy", "event", "xyz"), "'xyz': it is neither hexadecimal nor a line that an installed driver's kernel log"),
        (("tay", "event", "0x1"), "no driver named 'tay' is installed (installed: toy)"),
        (("0x1", "0x2"), "'0x1 0x2': no driver's log line is in it (toy); bytes need DRIVER and KIND"),
        (("deadbeef",), "'deadbeef': no driver's log line is in it (toy)"),
        (("usb 1-1: gone",), "'usb 1-1: gone': no driver's log line is in it (toy)"),
        (("--list", "tay"), "no driver named 'tay' is installed (installed: toy)"),
    ],
)
def test_what_cannot_be_decoded_is_told_in_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("decode", *arguments)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "stdin gave nothing to decode"), (b"a" * ((1 << 24) + 1), "stdin gave more than 0x1000000 bytes")],
    ids=["nothing", "too much"],
)
def test_stdin_that_cannot_be_read_is_told(run: Run, stdin: io.BytesIO, data: bytes, message: str) -> None:
    pipe(stdin, data)

    code, out, err = run("decode", "-")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_driver_that_is_broken_is_told_as_such(run: Run, talking: Shelf) -> None:
    talking.install("bad", object(), "bad-dist")

    assert run("decode", "toy", "CTRL", "1")[0] == 0
    assert "driver bad of bad-dist 1.2 cannot be used" in run("decode", "bad", "CTRL", "1")[2]


def completions(*words: str, incomplete: str) -> list[str]:
    completer = ShellComplete(app, {}, "viommu", "_VIOMMU_COMPLETE")
    return [item.value for item in completer.get_completions(list(words), incomplete)]


def test_the_shell_completes_drivers_and_their_kinds() -> None:
    assert completions("decode", incomplete="t") == ["toy"]
    assert completions("decode", incomplete="x") == []
    assert completions("decode", "toy", incomplete="") == ["command", "event", "Device", "entry", "CTRL"]
    assert completions("decode", "toy", incomplete="C") == ["CTRL"]
    assert completions("decode", "tay", incomplete="") == []
    assert completions("decode", "toy", "CTRL", incomplete="") == []


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_escape_sequences_of_a_log_do_not_reach_the_terminal(run: Run) -> None:
    _, out, _ = run("decode", f"{ONE_LINE}\x1b[31m")

    assert "\x1b" not in out
