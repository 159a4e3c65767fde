"""``viommu devices``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from viommu.cli.output import console, print_table, write_json
from viommu.vfio.catalogue import discover

if TYPE_CHECKING:
    from rich.console import Console

    from viommu.vfio.catalogue import Model


@click.command(short_help="List the installed models of devices.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def devices(as_json: bool) -> None:
    """List what `viommu run --device` can plug in, with the options of each, and models that are broken."""
    working, broken = discover()
    if as_json:
        told = [
            {"name": error.name, "distribution": error.distribution, "version": error.version, "reason": error.reason}
            for error in broken
        ]
        write_json({"models": [_to_json(model) for model in working], "broken": told})
        return
    out = console()
    for model in working:
        _print(out, model)
    for error in broken:
        out.print(f"{error.name}  BROKEN  {error.distribution} {error.version}", style="bold red")
        out.print(f"  {error.reason}")


def _print(out: Console, model: Model) -> None:
    info, origin = model.info, model.origin
    out.print(f"{info.name}  {info.title}", style="bold")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("  distribution", f"{origin.distribution} {origin.version}")
    if info.specification:
        facts.add_row("  specification", info.specification)
    for name, meaning in info.options.items():
        facts.add_row(f"  option {name}", meaning)
    print_table(out, facts)


def _to_json(model: Model) -> dict[str, Any]:
    return {
        "name": model.info.name,
        "title": model.info.title,
        "distribution": model.origin.distribution,
        "version": model.origin.version,
        "specification": model.info.specification,
        "options": dict(model.info.options),
    }
