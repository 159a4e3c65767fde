"""How structures of the uAPI are declared: names and types in the header's order, nothing twice."""

# ruff: noqa: PYI042 - the names of C types
from __future__ import annotations

import struct
from operator import itemgetter
from typing import Any, ClassVar, Self, TypeAlias

__all__ = [
    "UapiStruct",
    "bytes3",
    "bytes16",
    "bytes24",
    "bytes32",
    "bytes48",
    "s32",
    "u8",
    "u16",
    "u32",
    "u64",
]

u8: TypeAlias = int
"""8 bits, unsigned."""
u16: TypeAlias = int
"""16 bits, unsigned."""
u32: TypeAlias = int
"""32 bits, unsigned."""
s32: TypeAlias = int
"""32 bits, signed."""
u64: TypeAlias = int
"""64 bits, unsigned."""
bytes3: TypeAlias = bytes
"""An array of 3 bytes."""
bytes16: TypeAlias = bytes
"""An array of 16 bytes."""
bytes24: TypeAlias = bytes
"""An array of 24 bytes."""
bytes32: TypeAlias = bytes
"""An array of 32 bytes."""
bytes48: TypeAlias = bytes
"""An array of 48 bytes."""

FORMATS = {"u8": "B", "u16": "H", "u32": "I", "s32": "i", "u64": "Q"}


class UapiStruct:
    """A structure, declared by annotated names; ``last`` is the last field that a caller must give."""

    kernel_name: ClassVar[str]
    total: ClassVar[int]
    least: ClassVar[int]
    names: ClassVar[tuple[str, ...]]
    offsets: ClassVar[dict[str, int]]
    types: ClassVar[dict[str, str]]
    _packer: ClassVar[struct.Struct]
    _values: ClassVar[Any]
    _empty: ClassVar[dict[str, Any]]
    """All fields at zero, but for ``size``."""

    def __init_subclass__(cls, name: str, last: str | None = None) -> None:
        """Compute sizes and offsets. Raises TypeError where a field is not aligned as C would have it."""
        super().__init_subclass__()
        cls.kernel_name = name
        cls.types = {key: kind for key, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")}
        cls.names = tuple(cls.types)
        formats = [_format(kind) for kind in cls.types.values()]
        cls._packer = struct.Struct("<" + "".join(formats))
        cls.offsets = {}
        offset = 0
        for field, code in zip(cls.names, formats, strict=True):
            size = struct.calcsize("<" + code)
            if not code.endswith("s") and offset % size:
                raise TypeError(f"{name}.{field} lies at {offset}, not at a multiple of {size}")
            cls.offsets[field] = offset
            offset += size
        cls.total = offset
        cls.least = offset if last is None else cls._end_of(last)
        first, *others = cls.names
        cls._values = itemgetter(first, *(others or [first]))  # of a lone name it would give no tuple
        cls._empty = cls.decode(bytes(offset)).__dict__ | ({"size": offset} if "size" in cls.types else {})

    @classmethod
    def _end_of(cls, field: str) -> int:
        return cls.offsets[field] + struct.calcsize("<" + _format(cls.types[field]))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read a structure from its bytes; ``raw`` is that long."""
        new = cls.__new__(cls)
        new.__dict__ = dict(zip(cls.names, cls._packer.unpack(raw), strict=True))
        return new

    @classmethod
    def of(cls, **values: int | bytes) -> Self:
        """Make a structure; what is not given is zero, ``size`` is the whole. Raises AttributeError."""
        new = cls.__new__(cls)
        new.__dict__ = cls._empty | values
        if len(new.__dict__) != len(cls.names):
            raise AttributeError(f"{cls.kernel_name} has no {', '.join(sorted(values.keys() - cls.types.keys()))}")
        return new

    def encode(self) -> bytes:
        """Give the bytes."""
        return self._packer.pack(*self._values(self.__dict__)[: len(self.names)])

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.names)
        return f"{type(self).__name__}({shown})"


def _format(kind: str) -> str:
    return FORMATS.get(kind) or f"{int(kind.removeprefix('bytes'))}s"
