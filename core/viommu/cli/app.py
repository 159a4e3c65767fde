"""The group of commands, one module each."""

from __future__ import annotations

import logging
import sys

import click
import structlog

from viommu.cli.conform import conform
from viommu.cli.decode import decode
from viommu.cli.devices import devices
from viommu.cli.doctor import doctor
from viommu.cli.drivers import drivers
from viommu.cli.new_driver import new_driver
from viommu.cli.oracle import oracle
from viommu.cli.replay import replay
from viommu.cli.rerun import rerun
from viommu.cli.run import run, serve
from viommu.cli.walk import walk


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="viommu", prog_name="viommu")
@click.pass_context
def app(context: click.Context) -> None:
    """Vendor IOMMU hardware in software: translate, explain and compare."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (conform, decode, devices, doctor, drivers, new_driver, oracle, replay, rerun, run, serve, walk):
    app.add_command(command)
