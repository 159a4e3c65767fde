"""Structures are made of 64-bit words, each of which may be big-endian in memory."""

from __future__ import annotations

WORD = 8


def swapped_words(raw: bytes) -> bytes:
    """Turn the bytes of each word around."""
    return b"".join(raw[at : at + WORD][::-1] for at in range(0, len(raw), WORD))


def in_memory(raw: bytes, *, big_endian: bool) -> bytes:
    """Give little-endian words as memory holds them."""
    return swapped_words(raw) if big_endian else raw
