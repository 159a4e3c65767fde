"""``viommu run`` and ``viommu serve``: programs on emulated hardware."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click
import structlog

from viommu.errors import BadValue
from viommu.service.config import MachineConfig
from viommu.service.executables import why_not_preloadable
from viommu.service.run import environment_of, served, served_at
from viommu.service.run import run as run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.service.config import Made

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
    click.option("--log", "is_logged", is_flag=True, help="Log to standard error."),
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
def run(
    driver: str | None,
    config: Path | None,
    plugs: tuple[str, ...],
    is_logged: bool,
    is_summed_up: bool,
    connect: Path | None,
    program: tuple[str, ...],
) -> int:
    """Run PROGRAM, which finds /dev/iommu of an emulated machine, and end with its exit status."""
    _must_be_runnable(program[0])
    if connect is not None:
        if driver or config or plugs:
            raise BadValue("--connect", str(connect), "given alone: the machine is described where it is served")
        if not connect.is_socket():
            raise BadValue("--connect", str(connect), "the socket of a running `viommu serve`")
        return run_program(program, environment_of(connect))
    with _machine(driver, config, plugs, is_logged, is_summed_up) as made, served(*made) as environment:
        return run_program(program, environment)


@click.command(short_help="Keep a machine for programs that connect.")
@_with_options
@click.option("--socket", "path", required=True, type=click.Path(path_type=Path), help="Where programs connect.")
def serve(
    driver: str | None, config: Path | None, plugs: tuple[str, ...], is_logged: bool, is_summed_up: bool, path: Path
) -> None:
    """Keep a machine until the command is interrupted; `viommu run --connect PATH -- PROGRAM` uses it."""
    if path.exists():
        raise BadValue("--socket", str(path), "a path where nothing is yet")
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with _machine(driver, config, plugs, is_logged, is_summed_up) as made, served_at(path, *made):
        ended.wait()


def _must_be_runnable(program: str) -> None:
    if shutil.which(program) is None:
        raise BadValue("program", program, "an executable file, or the name of one on the PATH")
    reason = why_not_preloadable(program)
    if reason is not None:
        raise BadValue("program", program, f"one that a library can be put in front of: {reason}")


@contextmanager
def _machine(
    driver: str | None, config: Path | None, plugs: tuple[str, ...], is_logged: bool, is_summed_up: bool
) -> Iterator[Made]:
    if is_logged:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    described = MachineConfig() if config is None else MachineConfig.load(config)
    made = described.changed(driver, plugs).make()
    with made.machine:
        yield made
        if is_summed_up:
            print(made.machine.summary(), file=sys.stderr)  # noqa: T201
