"""``viommu new-driver``."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import click
from attrs import frozen

from viommu.cli.output import console
from viommu.drivers import installed_origins
from viommu.errors import BadValue
from viommu.hookspecs import HOOKSPEC_VERSION

TEMPLATE = Path(__file__).parents[1] / "templates" / "driver"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40
"""Letters of a name: folders and modules are named after it."""
LONGEST_TITLE = 60


@frozen
class Naming:
    """A driver's name, and those that follow from it."""

    name: str

    @property
    def module(self) -> str:
        """The Python package."""
        return f"viommu_{self.name}"

    @property
    def distribution(self) -> str:
        """What pip installs."""
        return self.module.replace("_", "-")

    def check(self) -> None:
        """Raise BadValue where no driver can have the name, or one that is installed has it."""
        name = self.name
        if len(name) > LONGEST or not NAME.fullmatch(name):
            bound = f"at most {LONGEST} lower-case letters, digits and single underscores, such as acme or acme_v2"
            raise BadValue("driver name", name, bound)
        for origin in installed_origins(name):
            raise BadValue("driver name", name, f"free: {origin.distribution} has installed a driver of that name")


@click.command("new-driver", short_help="Start a driver of your own.")
@click.argument("name")
@click.option("--title", help="What hardware it is for, in a few words.  [default: NAME IOMMU]")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="the current folder",
    help="Where to make the folder NAME.",
)
def new_driver(name: str, title: str | None, into: Path) -> None:
    """Make a folder NAME with a driver in it: a Python package that installs, with tests that pass.

    It models a toy with a device table and page tables; its README says what to change first.
    """
    naming = Naming(name)
    naming.check()
    folder = into / name
    if folder.exists():
        raise BadValue("folder", str(folder), "new: it exists already; remove it, or choose another --into")
    write_package(folder, naming, checked_title(title or f"{name} IOMMU"))
    out = console()
    out.print(f"{folder} is a driver now. Next:")
    for line in (f"pip install -e '{folder}[test]'", f"pytest {folder}", "viommu drivers", f"viommu conform {name}"):
        out.print(f"  {line}")


def checked_title(title: str) -> str:
    """Give a title that can stand in code. Raises BadValue."""
    if not title.isprintable() or set(title) & set('"\\{}') or not 0 < len(title.strip()) <= LONGEST_TITLE:
        raise BadValue("title", title, f'1 to {LONGEST_TITLE} printable letters without " \\ {{ }}')
    return title.strip()


def write_package(folder: Path, naming: Naming, title: str) -> None:
    """Fill the template in. Raises OSError."""
    from copier import run_copy  # noqa: PLC0415 - it is slow to import, and no other command wants it

    major, minor = (int(part) for part in version("viommu").split(".")[:2])
    answers = {
        "name": naming.name,
        "title": title,
        "module": naming.module,
        "distribution": naming.distribution,
        "viommu_version": f"{major}.{minor}",
        "viommu_next": str(major + 1) if major else f"0.{minor + 1}",
        "hookspec_version": HOOKSPEC_VERSION,
    }
    run_copy(str(TEMPLATE), folder, data=answers, defaults=True, quiet=True)
