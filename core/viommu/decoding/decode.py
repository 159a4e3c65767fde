"""Explains bytes that somebody pasted, and kernel log lines: what they are, field by field and in words."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from attrs import frozen

from viommu.decoding.key_values import built, pairs_of
from viommu.decoding.log_lines import events
from viommu.decoding.naming import meant, nearest
from viommu.decoding.pasted import Wanted, bytes_of
from viommu.errors import BadPaste, DriverBug, UnknownKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from viommu.decoding.log_lines import Event
    from viommu.drivers import BoundDriver
    from viommu.hookspecs import Decoded
    from viommu.layout import FieldSpec


@frozen
class Explained:
    """Bytes and what a driver says of them; ``lines`` of a log told them, ``count`` times in all."""

    driver: str
    raw: bytes
    decoded: Decoded
    lines: tuple[str, ...] = ()
    count: int = 1

    @property
    def words(self) -> tuple[str, ...]:
        """The bytes as words, the lowest first: of 64 bits, or of 32 where that is all there is."""
        width = 8 if len(self.raw) % 8 == 0 else 4
        parts = [self.raw[start : start + width] for start in range(0, len(self.raw), width)]
        return tuple(f"0x{int.from_bytes(part, 'little'):0{2 * len(part)}x}" for part in parts)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON holds it: numbers are text in hexadecimal, ``raw`` is in memory order."""
        descriptor = self.decoded.descriptor
        shown: dict[str, Any] = {
            "driver": self.driver,
            "kind": self.decoded.kind,
            "name": self.decoded.name,
            "meaning": self.decoded.meaning,
            "raw": self.raw.hex(),
            "words": list(self.words),
            "layout": type(descriptor).__name__,
            "fields": {name: _field_to_json(spec, int(descriptor)) for name, spec in descriptor.fields.items()},
            "reserved_set": hex(descriptor.reserved_set),
            "complaints": list(self.decoded.complaints),
            "causes": list(self.decoded.causes),
        }
        return shown | {"lines": list(self.lines), "count": self.count} if self.lines else shown


def _field_to_json(spec: FieldSpec, raw: int) -> dict[str, Any]:
    value = spec.take(raw)
    named = {"name": value.name} if isinstance(value, IntEnum) else {}
    return {"bits": spec.place, "value": hex(value), **named}


def kind_of(driver: BoundDriver, name: str) -> str:
    """Find the kind that somebody means. Raises UnknownKind, DriverBug."""
    kinds = driver.kinds()
    found = meant(name, kinds)
    if found is None:
        raise UnknownKind(driver.info.name, name, nearest(name, kinds))
    return found


def decode_bytes(driver: BoundDriver, kind: str, raw: bytes) -> Explained:
    """Explain bytes of a kind and size that the driver's `kinds` name. Raises DriverBug."""
    return Explained(driver.info.name, raw, _checked(driver, kind, raw))


def decode_text(driver: BoundDriver, kind: str, text: str, *, msb_first: bool = False) -> tuple[Explained, ...]:
    """Explain pasted text: words, bytes, a dump, ``key=value`` pairs, or log lines of that kind.

    Raises UnknownKind, BadPaste, DriverBug.
    """
    kind = kind_of(driver, kind)
    pairs = pairs_of(text)
    if pairs is not None:
        return (decode_bytes(driver, kind, built(driver, kind, pairs)),)
    try:
        wanted = Wanted(f"{kind} of {driver.info.name}", driver.kinds()[kind])
        raw = bytes_of(text, wanted, msb_first=msb_first)
    except BadPaste:
        told = tuple(found for found in decode_log([driver], text) if found.decoded.kind == kind)
        if not told:
            raise
        return told
    return (decode_bytes(driver, kind, raw),)


def decode_log(drivers: Sequence[BoundDriver], text: str) -> tuple[Explained, ...]:
    """Explain every event that kernel log lines tell, each once, with how often it is told; () where there is none.

    Raises BadPaste (too much text), DriverBug.
    """
    first: dict[tuple[str, str, bytes], Event] = {}
    counts: dict[tuple[str, str, bytes], int] = {}
    for event in events(drivers, text):
        key = (event.driver.info.name, event.kind, event.raw)
        first.setdefault(key, event)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        Explained(event.driver.info.name, event.raw, _checked(event.driver, event.kind, event.raw), event.lines, count)
        for event, count in zip(first.values(), counts.values(), strict=True)
    )


def kinds_to_json(drivers: Iterable[BoundDriver]) -> dict[str, Any]:
    """Name all that drivers explain, with the sizes in bytes."""
    return {
        "drivers": [
            {"name": driver.info.name, "kinds": {kind: list(sizes) for kind, sizes in driver.kinds().items()}}
            for driver in drivers
        ]
    }


def _checked(driver: BoundDriver, kind: str, raw: bytes) -> Decoded:
    """Hold a driver to what `viommu_decode` owes."""
    decoded = driver.decode(kind, raw)
    encoded = decoded.descriptor.encode()
    if encoded != raw:
        what = f"of {kind} {raw.hex()} it made {type(decoded.descriptor).__name__} {encoded.hex()}, other bytes"
        raise DriverBug(driver.info.name, "viommu_decode", what)
    return decoded
