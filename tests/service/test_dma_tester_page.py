"""docs/devices/dma-tester.md says what the code has: its tables are made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from viommu.models.dma_tester import registers, work
from viommu.models.dma_tester.registers import DEVICE, RING, RINGS_AT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import IntEnum

    from viommu.layout import Descriptor
    from viommu.registers import Register

PAGE = Path(__file__).parents[2] / "docs" / "devices" / "dma-tester.md"


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def bits(low: int, high: int) -> str:
    return str(low) if low == high else f"{high}:{low}"


def fields(layout: type[Descriptor]) -> str:
    found = [f"{spec.name} {bits(spec.low, spec.high)}" for spec in layout.fields.values()]
    return "; ".join(found)


def register_table(declared: Mapping[str, Register], first: int) -> str:
    rows = ["| offset | register | bytes | | fields | |", "|---|---|---|---|---|---|"]
    for name, register in declared.items():
        where = f"{first + register.offset:#06x}"
        access = "read" if register.writable == 0 else "read, write"
        meaning = one_line(register.layout.__doc__)
        rows.append(f"| {where} | {name} | {register.size} | {access} | {fields(register.layout)} | {meaning} |")
    return "\n".join(rows)


def layout_table(layout: type[Descriptor]) -> str:
    rows = ["| bytes | bits | field |", "|---|---|---|"]
    for spec in layout.fields.values():
        word = spec.low // 64 * 8
        rows.append(f"| {word} | {bits(spec.low % 64, spec.high % 64)} | {spec.name} |")
    return "\n".join(rows)


def value_table(values: type[IntEnum], meanings: Mapping[str, str]) -> str:
    rows = ["| value | name | |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {one.value} | {one.name} | {meanings.get(one.name, '')} |" for one in values)])


def meanings_of(source: str, name: str) -> dict[str, str]:
    """Read what is written under each value of an enumeration."""
    body = source.split(f"class {name}(IntEnum):")[1].split("\nclass ", maxsplit=1)[0]
    found: dict[str, str] = {}
    last = ""
    text = ""
    inside = False
    for line in body.splitlines():
        stripped = line.strip()
        if not inside and " = " in stripped and stripped.split(" = ")[0].isidentifier():
            last = stripped.split(" = ")[0]
        elif last and (inside or stripped.startswith('"""')):
            text += " " + stripped.replace('"""', "")
            inside = stripped.count('"""') % 2 == (0 if inside else 1)
            if not inside:
                found[last], text = one_line(text), ""
    return found


def tables() -> dict[str, str]:
    sources = {module: Path(str(module.__file__)).read_text() for module in (registers, work)}
    return {
        "registers of the device": register_table(DEVICE, 0),
        "registers of a ring": register_table(RING, RINGS_AT),
        "errors of a ring": value_table(registers.RingError, meanings_of(sources[registers], "RingError")),
        "descriptor": layout_table(work.Work),
        "operations": value_table(work.Operation, meanings_of(sources[work], "Operation")),
        "completion record": layout_table(work.Completion),
        "how it ended": value_table(work.Status, meanings_of(sources[work], "Status")),
    }


@pytest.mark.parametrize("name", tables())
def test_the_page_has_the_table_of_the_code(name: str) -> None:
    assert tables()[name] in PAGE.read_text(), f"write into the page:\n{tables()[name]}"


def test_every_value_is_explained() -> None:
    assert all(line.split("|")[3].strip() for line in tables()["operations"].splitlines()[3:])
    assert all(line.split("|")[3].strip() for line in tables()["how it ended"].splitlines()[3:])
