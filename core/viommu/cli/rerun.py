"""``viommu rerun``: a recorded run, repeated without its program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from viommu.cli.entry import GOOD
from viommu.cli.output import console, write_json
from viommu.service.config import MachineConfig
from viommu.service.rerun.recording import Recording
from viommu.service.rerun.rerun import rerun as repeat

if TYPE_CHECKING:
    from viommu.service.rerun.differences import Difference

DIFFERS = 1


@click.command(short_help="Repeat a recorded run, and say where it first differs.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--driver", help="Repeat it on another driver's IOMMU.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Repeat it on the machine of this file; where that has no devices, with those of the recording.",
)
@click.option(
    "--device", "plugs", metavar="MODEL@BDF[,OPTION=VALUE...]", multiple=True, help="Repeat it with this device, these."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rerun(file: Path, driver: str | None, config: Path | None, plugs: tuple[str, ...], as_json: bool) -> int:
    """Repeat what `viommu run --record FILE` wrote, without the program.

    Ends with 0 if the machine did the same, with 1 where it did not: the first difference is told.
    """
    recording = Recording(file)
    other = None if config is None else MachineConfig.load(config)
    result = repeat(recording, recording.config(driver, other, plugs))
    if as_json:
        write_json(result.to_json())
    elif result.difference is None:
        console().print(f"the same: {result.records} records")
        if not result.is_whole:
            console().print("the recording was cut off there: its run did not end by itself")
    else:
        _print(result.difference)
    return GOOD if result.difference is None else DIFFERS


def _print(difference: Difference) -> None:
    whose = f" of {difference.program}" if difference.program else ""
    to = console()
    to.print(f"record {difference.record}, after {difference.at:.6f} s: {difference.call}{whose}")
    to.print(f"  {difference.field}")
    to.print(f"    recorded  {difference.recorded}")
    to.print(f"    now       {difference.now}")
    for reason in difference.reasons:
        to.print(f"  because: {reason}")
