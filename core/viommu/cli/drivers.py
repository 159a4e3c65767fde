"""``viommu drivers``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from viommu.cli.output import console, print_table, write_json
from viommu.drivers import discover

if TYPE_CHECKING:
    from rich.console import Console

    from viommu.drivers import BoundDriver
    from viommu.errors import BrokenDriver


@click.command(short_help="List the installed drivers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drivers(as_json: bool) -> None:
    """List the installed drivers, what each supports, and those that are broken."""
    found = discover()
    if as_json:
        write_json(
            {
                "drivers": [_to_json(driver) for driver in found.working],
                "broken": [_broken_to_json(error) for error in found.broken],
            }
        )
        return
    out = console()
    if not found.working and not found.broken:
        out.print("no driver is installed: install one, such as viommu-vtd")
    for error in found.broken:  # first: below those that work nobody would see them
        out.print(f"{error.name}  BROKEN  {error.distribution} {error.version}", style="bold red")
        out.print(f"  {error.reason}")
    for driver in found.working:
        _print(out, driver)


def _print(out: Console, driver: BoundDriver) -> None:
    info, origin = driver.info, driver.origin
    out.print(f"{info.name}  {info.title}", style="bold")
    facts = Table.grid(padding=(0, 2))
    pasids = f"{info.pasid_bits} bits" if info.pasid_bits else "none"
    for name, value in (
        ("distribution", f"{origin.distribution} {origin.version}"),
        ("specification", info.specification),
        ("requester ids", f"{info.requester_bits} bits"),
        ("PASIDs", pasids),
        ("supports", "\n".join(info.supports)),
    ):
        if value:
            facts.add_row(f"  {name}", value)
    print_table(out, facts)


def _to_json(driver: BoundDriver) -> dict[str, Any]:
    return {
        "name": driver.info.name,
        "title": driver.info.title,
        "distribution": driver.origin.distribution,
        "version": driver.origin.version,
        "specification": driver.info.specification,
        "requester_bits": driver.info.requester_bits,
        "pasid_bits": driver.info.pasid_bits,
        "supports": list(driver.info.supports),
    }


def _broken_to_json(error: BrokenDriver) -> dict[str, Any]:
    return {
        "name": error.name,
        "distribution": error.distribution,
        "version": error.version,
        "reason": error.reason,
    }
