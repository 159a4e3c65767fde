"""Bytes as people paste them: words of 32 or 64 bits, bytes, a run of digits, lines of a hex dump.

Words are values, whatever order their bytes had in memory; everything of two or four digits, and a run of more than
sixteen, is bytes in memory order. How wide a word is that was not written in full is decided by the sizes that the
bytes may have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from viommu.decoding.hex_dump import DIGITS, dumped_bytes
from viommu.errors import BadPaste

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT_LIMIT = 1 << 20
"""Characters; what is decoded has at most some hundred bytes."""

NOISE = re.compile(r"[\s,;:|{}()<>\[\]\"'`=]+|\\x|\\")


@frozen
class Token:
    """Digits between two gaps; ``prefixed`` where 0x stands before them."""

    digits: str
    prefixed: bool

    @property
    def value(self) -> int:
        """The digits as a number."""
        return int(self.digits, 16)


@frozen
class Reading:
    """One way to read what was pasted. ``how`` says which; ``unclear``: words that may be wider or narrower."""

    raw: bytes
    how: str
    unclear: bool = False


@frozen
class Wanted:
    """What the bytes are to be, and the sizes that they may have."""

    what: str
    sizes: Sequence[int]

    def __str__(self) -> str:
        return f"{self.what} takes {' or '.join(map(str, self.sizes))}"


def bytes_of(text: str, wanted: Wanted, *, msb_first: bool = False) -> bytes:
    """Read pasted text as bytes in memory order. Raises BadPaste.

    ``msb_first``: the most significant word, or byte, was written first.
    """
    if len(text) > TEXT_LIMIT:
        raise BadPaste(text, f"it has {len(text)} characters, at most {TEXT_LIMIT} are read as hexadecimal")
    dumped = dumped_bytes(text)
    if dumped is None:
        return _fitting(text, list(_readings(_tokens(text), wanted.sizes, msb_first=msb_first)), wanted)
    if msb_first:
        raise BadPaste(text, "a dump with addresses has an order of its own: it cannot be most significant first")
    return _fitting(text, [Reading(dumped, "a hex dump")], wanted)


def words_of(words: Sequence[str], wanted: Wanted) -> bytes:
    """Put words together, the lowest first. Raises BadPaste."""
    text = " ".join(words)
    tokens = [evolve(token, prefixed=True) for token in _tokens(text)]
    return _fitting(text, list(_readings(tokens, (), msb_first=False)), wanted)


def _fitting(text: str, readings: Sequence[Reading], wanted: Wanted) -> bytes:
    """Take the first reading that has one of the sizes; two word widths that both fit are one too many."""
    fitting = [reading for reading in readings if len(reading.raw) in wanted.sizes]
    if not fitting:
        given = " or ".join(dict.fromkeys(f"{len(reading.raw)} bytes ({reading.how})" for reading in readings))
        raise BadPaste(text, f"it is {given}, and {wanted}")
    if len(fitting) > 1 and fitting[0].unclear and fitting[0].raw != fitting[1].raw:
        raise BadPaste(text, f"its words may have 64 or 32 bits, and {wanted} bytes: write all 16 or 8 digits")
    return fitting[0].raw


def _tokens(text: str) -> list[Token]:
    tokens = []
    for part in NOISE.split(text):
        if not part:
            continue
        found = DIGITS.fullmatch(part)
        if found is None:
            raise BadPaste(
                part, "it is neither hexadecimal nor a line that an installed driver's kernel log would have"
            )
        tokens.append(Token(found[2].replace("_", ""), found[1] is not None))
    if not tokens:
        raise BadPaste(text, "there is nothing to decode in it")
    return tokens


def _readings(tokens: Sequence[Token], sizes: Sequence[int], *, msb_first: bool) -> Iterator[Reading]:
    """Give every way to read tokens, the likeliest first."""
    digits = [len(token.digits) for token in tokens]
    prefixed = any(token.prefixed for token in tokens)
    if max(digits) > 16:
        yield _number(tokens, sizes) if prefixed else _run(tokens, msb_first=msb_first)
        return
    in_memory_order = not prefixed and set(digits) <= {2, 4}
    if in_memory_order:
        yield _run(tokens, msb_first=msb_first)
        if len(tokens) > 1:  # bytes of which some are missing, perhaps: never words of a few digits each
            return
    yield from _words(tokens, msb_first=msb_first)
    if not prefixed and set(digits) not in ({8}, {16}) and not in_memory_order and not any(map(_is_odd, digits)):
        yield _run(tokens, msb_first=msb_first)


def _is_odd(number: int) -> bool:
    return number % 2 == 1


def _words(tokens: Sequence[Token], *, msb_first: bool) -> Iterator[Reading]:
    digits = {len(token.digits) for token in tokens}
    ordered = list(reversed(tokens)) if msb_first else tokens
    widths = [64, 32] if max(digits) <= 8 else [64]
    if digits == {8} and len(tokens) > 1:  # written in full: half of a longer structure, if it does not fit
        widths = [32]
    for width in widths:
        raw = b"".join(token.value.to_bytes(width // 8, "little") for token in ordered)
        how = f"{len(tokens)} word{'s' * (len(tokens) != 1)} of {width} bits"
        yield Reading(raw, how, unclear=digits not in ({8}, {16}))


def _run(tokens: Sequence[Token], *, msb_first: bool) -> Reading:
    digits = "".join(token.digits for token in tokens)
    if len(digits) % 2 or any(token.prefixed for token in tokens):
        raise BadPaste(digits, f"{len(digits)} digits are no whole bytes")
    raw = bytes.fromhex(digits)
    return Reading(raw[::-1] if msb_first else raw, "as they are")


def _number(tokens: Sequence[Token], sizes: Sequence[int]) -> Reading:
    """Read one long number, which may lack the zeros before it."""
    if len(tokens) > 1:
        longest = max(tokens, key=lambda token: len(token.digits))
        raise BadPaste(longest.digits, "a word has at most 16 digits")
    [token] = tokens
    length = (len(token.digits) + 1) // 2
    size = min((size for size in sizes if size >= length), default=length)
    return Reading(token.value.to_bytes(size, "little"), "one number")
