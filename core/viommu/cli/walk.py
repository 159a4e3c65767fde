"""``viommu walk``."""

from __future__ import annotations

from pathlib import Path

import click

from viommu.captures.capture import load
from viommu.captures.rows import LETTERS
from viommu.cli.output import console, number, print_explanation, write_json
from viommu.faults import Access


@click.command(short_help="Explain one access, step by step.")
@click.argument("capture", type=click.Path(path_type=Path))
@click.argument("iova", type=number)
@click.option("--rid", type=number, required=True, help="Requester id or StreamID of the device.")
@click.option("--pasid", type=number, help="PASID of the access, if it has one.")
@click.option(
    "--access", type=click.Choice(list(LETTERS)), default="r", show_default=True, help="Read, write, execute."
)
@click.option("--privileged", is_flag=True, help="The access is privileged.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def walk(capture: Path, iova: int, rid: int, pasid: int | None, access: str, privileged: bool, as_json: bool) -> None:
    """Explain how CAPTURE translates an access to IOVA: every structure and table entry that is read.

    What the tables do wrong is a fault, which is explained as well (exit 0).
    """
    asked = LETTERS[access] | (Access.PRIVILEGED if privileged else Access(0))
    explanation = load(capture).machine().explain(rid, iova, asked, pasid)
    if as_json:
        write_json(explanation.to_json())
    else:
        print_explanation(console(), explanation)
