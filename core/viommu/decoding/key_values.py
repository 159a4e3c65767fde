"""Structures as people write them down: ``V=1 Config=5 S1ContextPtr=0x480a8000``, or ``dw0=... dw1=...``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import define

from viommu.captures.files import parsed_number
from viommu.decoding.naming import field_of, nearest, plain
from viommu.decoding.pasted import Wanted, words_of
from viommu.errors import BadPaste

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import IntEnum

    from viommu.drivers import BoundDriver
    from viommu.layout import FieldSpec

PAIR = re.compile(r"([A-Za-z_][\w.-]{0,63}(?:\[\d{1,2}\])?) {0,3}= {0,3}([\w.-]{1,64})", re.ASCII)
REST = re.compile(r"[\s,;(){}\[\]]+|[A-Za-z_][\w.]*", re.ASCII)
"""What may stand between pairs: punctuation, the structure's name, a value's name in brackets."""

WORD = re.compile(r"([a-z_.-]*?)\[?(\d{1,2})\]?", re.ASCII | re.IGNORECASE)
HALVES = {"lo": 0, "low": 0, "hi": 1, "high": 1}
DIGITS = {"d": 8, "dw": 8, "dword": 8, "q": 16, "qw": 16, "qword": 16}
"""How wide a word is whose name says so: all of its digits are written then."""

TEXT_LIMIT = 1 << 16
"""Characters."""

PASSES = 4
"""An opcode decides which fields there are; nothing has more steps than a few."""


@define
class _Unknown(Exception):
    """A field that the bytes, as far as they are known, do not have."""

    name: str
    known: tuple[str, ...]


def pairs_of(text: str) -> dict[str, str] | None:
    """Split ``key=value`` pairs; None where the text is not made of them. Raises BadPaste for a key given twice."""
    if "=" not in text or len(text) > TEXT_LIMIT or REST.sub("", PAIR.sub("", text)):
        return None
    pairs: dict[str, str] = {}
    for key, value in PAIR.findall(text):
        if pairs.setdefault(key, value) != value:
            raise BadPaste(key, f"it is given twice, as {pairs[key]} and as {value}")
    return pairs


def built(driver: BoundDriver, kind: str, pairs: Mapping[str, str]) -> bytes:
    """Build bytes of a kind from fields, or from words. Raises BadPaste, DriverBug."""
    sizes = driver.kinds()[kind]
    unknown: _Unknown | None = None
    for size in sizes:
        try:
            return _filled(driver, kind, bytes(size), pairs)
        except _Unknown as error:
            unknown = unknown or error
    what = f"{kind} of {driver.info.name}"
    words = _words(pairs)
    if words is not None or unknown is None:
        return words_of(words or (), Wanted(what, sizes))
    guess = nearest(unknown.name, unknown.known)
    hint = f"did you mean {guess}?" if guess else f"it has {', '.join(unknown.known)}"
    raise BadPaste(unknown.name, f"it is no field of {what} ({hint})")


def _filled(driver: BoundDriver, kind: str, raw: bytes, pairs: Mapping[str, str]) -> bytes:
    """Set every field. Those that are known at first (an opcode) may bring in the others."""
    missing: list[str] = []
    known: tuple[str, ...] = ()
    for _ in range(PASSES):
        decoded = driver.decode(kind, raw)
        fields = {key: field_of(decoded, key) for key in pairs}
        missing = [key for key, spec in fields.items() if spec is None]
        known = tuple(decoded.descriptor.fields)
        changes = {
            spec.name: _value(type(decoded.descriptor).__name__, spec, pairs[key])
            for key, spec in fields.items()
            if spec is not None
        }
        before, raw = raw, decoded.descriptor.replace(**changes).encode()
        if raw == before or not missing:
            break
    if missing:
        raise _Unknown(missing[0], known)
    return raw


def _value(owner: str, spec: FieldSpec, text: str) -> int:
    number = parsed_number(text)
    if number is None:
        number = _named(spec, text)
    try:
        spec.check(owner, number)
    except ValueError as error:
        raise BadPaste(f"{spec.name}={text}", str(error)) from None
    return number


def _named(spec: FieldSpec, text: str) -> int:
    names: dict[str, IntEnum] = {plain(member.name): member for member in spec.of or ()}
    member = names.get(plain(text.rpartition(".")[2]))
    if member is None:
        known = ", ".join(found.name for found in names.values())
        raise BadPaste(f"{spec.name}={text}", f"a number is needed{f', or one of {known}' if known else ''}")
    return member


def _words(pairs: Mapping[str, str]) -> Sequence[str] | None:
    """Take pairs as words by number, or as two halves; None where they are neither."""
    numbers: dict[int, str] = {}
    for key, value in pairs.items():
        found = WORD.fullmatch(key)
        number = HALVES.get(plain(key)) if found is None else int(found[2])
        if number is None:
            return None
        width = 0 if found is None else DIGITS.get(found[1].casefold(), 0)
        numbers[number] = value.lower().removeprefix("0x").zfill(width)
    if sorted(numbers) != list(range(len(pairs))):
        return None
    return [numbers[number] for number in sorted(numbers)]
