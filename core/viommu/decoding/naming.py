"""Names as people write them: other case, other punctuation, other abbreviations, nearly right."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from viommu.captures.files import parsed_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.hookspecs import Decoded
    from viommu.layout import FieldSpec

LONGEST = 64
"""Characters of a name that are compared; none has more."""


def plain(name: str) -> str:
    """Reduce a name to what tells it from others: ``p-iotlb`` and ``P_IOTLB`` are one."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def meant(name: str, known: Iterable[str]) -> str | None:
    """Find what somebody means by a name: the one written so, else the only one that is so but for its spelling."""
    names = tuple(known)
    if name in names:
        return name
    alike = [other for other in names if plain(other) == plain(name)]
    return alike[0] if len(alike) == 1 else None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the name that looks most like one that is not there; None where none looks like it."""
    spelt = {plain(other): other for other in known}
    found = get_close_matches(plain(name[:LONGEST]), spelt, n=1, cutoff=0.5)
    return spelt[found[0]] if found else None


def goes_by(decoded: Decoded, name: str) -> bool:
    """Whether bytes go by a name, or by a number in place of it (``0x71`` for ``0x071``)."""
    number = parsed_number(name)
    known = (decoded.name, *decoded.aliases)
    if number is not None:
        return number in map(parsed_number, known)
    return plain(name) in map(plain, known)


def field_of(decoded: Decoded, name: str) -> FieldSpec | None:
    """Find the field that somebody calls ``name``; None where these bytes have none such."""
    fields = decoded.descriptor.fields
    aliases = {plain(alias): own for alias, own in decoded.field_aliases.items()}
    found = meant(name, fields)
    return fields.get(aliases.get(plain(name), "")) if found is None else fields[found]
