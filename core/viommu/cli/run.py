"""``viommu run``."""

from __future__ import annotations

import logging
import shutil
import sys

import click
import structlog

from viommu.errors import BadValue
from viommu.machine import Machine
from viommu.service.run import run as run_program
from viommu.service.run import served
from viommu.vfio.devices import Devices, Plug


@click.command(
    short_help="Run a program on emulated hardware.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--driver", default="selftest", show_default=True, help="The driver of the machine's IOMMU.")
@click.option(
    "--device",
    "plugs",
    metavar="MODEL@BDF[,OPTION=VALUE...]",
    multiple=True,
    help="Plug in a device, such as edu@00:10.0, for the program to own.",
)
@click.option("--log", "is_logged", is_flag=True, help="Log to standard error.")
@click.option("--summary", "is_summed_up", is_flag=True, help="At the end, say on standard error what was done.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(driver: str, plugs: tuple[str, ...], is_logged: bool, is_summed_up: bool, program: tuple[str, ...]) -> int:
    """Run PROGRAM, which finds /dev/iommu of an emulated machine, and end with its exit status."""
    if shutil.which(program[0]) is None:
        raise BadValue("program", program[0], "an executable file, or the name of one on the PATH")
    if is_logged:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    with Machine(driver) as machine:
        devices = Devices(machine)
        for plug in plugs:
            devices.add(Plug.parse(plug))
        with served(machine, devices) as environment:
            status = run_program(program, environment)
        if is_summed_up:
            print(machine.summary(), file=sys.stderr)  # noqa: T201
    return status
