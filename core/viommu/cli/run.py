"""``viommu run`` and ``viommu serve``: programs on emulated hardware."""

from __future__ import annotations

import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from viommu.cli.output import log_as_json
from viommu.errors import BadValue, told
from viommu.service.chronicle import Chronicle
from viommu.service.config import MachineConfig
from viommu.service.course import Course
from viommu.service.executables import why_not_preloadable
from viommu.service.recording.recorder import Recorder
from viommu.service.run import environment_of, served, served_at
from viommu.service.run import run as run_program
from viommu.service.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.service.config import Made


@frozen
class Options:
    """What `viommu run` and `viommu serve` are both told."""

    driver: str | None = None
    config: Path | None = None
    plugs: tuple[str, ...] = ()
    is_logged: bool = False
    record_to: Path | None = None
    is_summed_up: bool = False


OPTIONS = (
    click.option("--driver", help="The driver of the machine's IOMMU (default: selftest, or what the file says)."),
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file that tells of the machine.",
    ),
    click.option(
        "--device",
        "plugs",
        metavar="MODEL@BDF[,OPTION=VALUE...]",
        multiple=True,
        help="Plug in a device, such as edu@00:10.0, for programs to own.",
    ),
    click.option("--log", "is_logged", is_flag=True, help="Log to standard error, as lines of JSON."),
    click.option(
        "--record",
        "record_to",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write all that happens to a file, which `viommu rerun` repeats.",
    ),
    click.option("--summary", "is_summed_up", is_flag=True, help="At the end, say on standard error what was done."),
)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command(
    short_help="Run a program on emulated hardware.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@_with_options
@click.option(
    "--connect", type=click.Path(path_type=Path), help="Use the machine that `viommu serve` keeps at this path."
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(connect: Path | None, program: tuple[str, ...], **given: Any) -> int:  # noqa: ANN401 - click's own
    """Run PROGRAM, which finds /dev/iommu of an emulated machine, and end with its exit status."""
    _must_be_runnable(program[0])
    options = Options(**given)
    if connect is not None:
        if options != Options():
            raise BadValue("--connect", str(connect), "given alone: the machine is described where it is served")
        if not connect.is_socket():
            raise BadValue("--connect", str(connect), "the socket of a running `viommu serve`")
        return run_program(program, environment_of(connect))
    with _machine(options) as (made, course), served(*made, course) as environment:
        return run_program(program, environment)


@click.command(short_help="Keep a machine for programs that connect.")
@_with_options
@click.option("--socket", "path", required=True, type=click.Path(path_type=Path), help="Where programs connect.")
def serve(path: Path, **given: Any) -> None:  # noqa: ANN401 - click's own
    """Keep a machine until the command is interrupted; `viommu run --connect PATH -- PROGRAM` uses it."""
    if path.exists():
        raise BadValue("--socket", str(path), "a path where nothing is yet")
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    with _machine(Options(**given)) as (made, course), served_at(path, *made, course):
        ended.wait()


def _must_be_runnable(program: str) -> None:
    if shutil.which(program) is None:
        raise BadValue("program", program, "an executable file, or the name of one on the PATH")
    reason = why_not_preloadable(program)
    if reason is not None:
        raise BadValue("program", program, f"one that a library can be put in front of: {reason}")


@contextmanager
def _machine(options: Options) -> Iterator[tuple[Made, Course]]:
    """Make a machine, and who is told of what happens on it."""
    if options.is_logged:
        log_as_json()
    described = MachineConfig() if options.config is None else MachineConfig.load(options.config)
    config = described.changed(options.driver, options.plugs)
    recorder = None if options.record_to is None else Recorder(options.record_to, config)
    made = config.make() if recorder is None else recorder.made
    with made.machine:
        course = recorder or Course()
        if options.is_logged:
            course = Chronicle(course, made.devices)
        tally = Tally(course, made.devices) if options.is_summed_up else None
        yield made, tally or course
        if recorder is not None and recorder.error is not None:
            reason = recorder.error.strerror or told(recorder.error)
            print(f"viommu: {options.record_to} holds only the beginning: {reason}", file=sys.stderr)  # noqa: T201
        if tally is not None:
            print(f"{tally}\n\n{made.machine.summary()}", file=sys.stderr)  # noqa: T201
