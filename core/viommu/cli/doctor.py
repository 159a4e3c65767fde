"""``viommu doctor``."""

from __future__ import annotations

import click
from rich.table import Table

from viommu.cli.output import console, print_table, write_json
from viommu.service.doctor import examine


@click.command(short_help="Say what this machine can do for real programs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Try what `viommu run` needs of this machine, and say what is there; 1 if anything it cannot do without is not."""
    findings = examine()
    if as_json:
        write_json({"findings": [{"name": f.name, "well": f.well, "found": f.found} for f in findings]})
    else:
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            table.add_row("ok" if finding.well else "NO" if finding.needed else "-", finding.name, finding.found)
        print_table(console(), table)
    return int(any(finding.needed and not finding.well for finding in findings))
