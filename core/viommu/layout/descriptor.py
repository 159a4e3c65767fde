"""`Descriptor`: the base of every declared structure and register."""

from __future__ import annotations

from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Self

from attrs import define

from viommu.layout import columns, text
from viommu.layout.fields import FieldSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


class _Body(dict[str, object]):
    """A class body in which a field's name is given once."""

    def __setitem__(self, name: str, value: object) -> None:
        if name in self and isinstance(self[name], FieldSpec):
            raise ValueError(f"field {name} is declared twice")
        super().__setitem__(name, value)


class _DescriptorType(type):
    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **keywords: object) -> _Body:
        return _Body(__slots__=())  # a misspelt field must not become an attribute of one instance


@define(init=False, repr=False, unsafe_hash=True)
class Descriptor(metaclass=_DescriptorType):
    """A structure in memory, or a register: little-endian bits with names. Immutable.

    Declare one as the specification prints it; the class refuses (ValueError) overlaps, bits beyond
    ``width`` and names given twice::

        class STE(Descriptor, width=512):
            V = Bit(0)
            Config = Field(3, 1, of=StreamConfig)
            S1ContextPtr = Bits(51, 6, shift=6)

    `decode` reads one, fields are attributes, and ``STE(V=1, Config=5)`` builds one whose other bits are 0.
    A class that derives from a layout has the fields of both.
    """

    _raw: int

    width: ClassVar[int] = 0
    """Bits."""
    size: ClassVar[int] = 0
    """Bytes."""
    fields: ClassVar[Mapping[str, FieldSpec]] = MappingProxyType({})
    """By name, from the lowest bit up."""
    reserved_mask: ClassVar[int] = 0
    """The bits that no field covers."""

    def __init_subclass__(cls, *, width: int | None = None) -> None:
        super().__init_subclass__()
        cls.width = cls.width if width is None else width
        cls.size = cls.width // 8
        if cls.width <= 0 or cls.width % 8:
            raise ValueError(f"{cls.__name__}: width is {cls.width}, not a positive multiple of 8 bits")
        cls.fields = MappingProxyType(_declared(cls))
        cls.reserved_mask = (1 << cls.width) - 1 & ~_covered(cls)

    def __init__(self, **values: int) -> None:
        """Set the named fields; all other bits are 0.

        Raises ValueError where a value does not fit its field or an address has low bits set, and TypeError
        for a name that is no field.
        """
        self._raw = self._patched(0, values)

    @classmethod
    def decode(cls, raw: bytes | bytearray | memoryview | int) -> Self:
        """Read one from its bytes in memory order, or from its value. ValueError where the size is wrong."""
        if not isinstance(raw, int):
            if len(raw) != cls.size:
                raise ValueError(f"{cls.__name__}: {len(raw)} bytes given, it has {cls.size}")
            return cls._of(int.from_bytes(raw, "little"))
        if raw < 0 or raw >> cls.width:
            raise ValueError(f"{cls.__name__}: {raw:#x} is not a value of {cls.width} bits")
        return cls._of(int(raw))

    @classmethod
    def columns(cls, raw: NDArray[np.uint8]) -> dict[str, NDArray[np.uint64]]:
        """Decode n raw entries at once: ``raw`` has shape (n, size), each field becomes a column of n values.

        Every column is uint64, that of a single bit too, so that columns mix in sums and shifts without casts.
        Raises ValueError where shape or dtype is another.
        """
        return columns.decode(cls.__name__, cls.fields, cls.size, raw)

    def encode(self) -> bytes:
        """Give the bytes in memory order (little-endian)."""
        return self._raw.to_bytes(self.size, "little")

    def replace(self, **changes: int) -> Self:
        """Make the same with other values in some fields; reserved bits stay. Raises as the constructor does."""
        return self._of(self._patched(self._raw, changes))

    def pretty(self) -> str:
        """Write a line for each field: name, bits, value and its name; and reserved bits where they are set."""
        return text.pretty(type(self).__name__, self.fields, self._raw, self.reserved_mask)

    @property
    def reserved_set(self) -> int:
        """The reserved bits that are set, in place."""
        return self._raw & self.reserved_mask

    def __int__(self) -> int:
        return self._raw

    def __repr__(self) -> str:
        return text.one_line(type(self).__name__, self.fields, self._raw, self.reserved_mask)

    @classmethod
    def _of(cls, raw: int) -> Self:
        made = cls.__new__(cls)
        made._raw = raw  # noqa: SLF001 - the constructor would be one more call for each entry that is read
        return made

    @classmethod
    def _patched(cls, raw: int, values: Mapping[str, int]) -> int:
        fields, owner, new = cls.fields, cls.__name__, not raw
        for name, value in values.items():
            spec = fields.get(name)
            if spec is None:
                raise TypeError(f"{owner} has no field {name!r}; it has {', '.join(fields)}")
            number = index(value)  # a NumPy integer would overflow where it meets 512 bits
            if number or not new:
                raw = spec.patched(owner, raw, number)
        return raw


def _declared(cls: type[Descriptor]) -> dict[str, FieldSpec]:
    """Collect the fields of a class and of the layouts it derives from, in the order of their bits."""
    fields: dict[str, FieldSpec] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if not isinstance(value, FieldSpec):
                continue
            if name in fields:
                raise ValueError(f"{cls.__name__}.{name} is declared twice: a layout it derives from has it too")
            if hasattr(Descriptor, name):
                raise ValueError(f"{cls.__name__}.{name}: every descriptor has a member of that name; choose another")
            fields[name] = value
    return dict(sorted(fields.items(), key=lambda item: item[1].low))


def _covered(cls: type[Descriptor]) -> int:
    """Gather the bits that fields cover. ValueError where two meet, or one lies beyond the width."""
    covered = 0
    for name, spec in cls.fields.items():
        for high, low in spec.parts:
            if high >= cls.width:
                raise ValueError(f"{cls.__name__}.{name} {spec.place}: the highest bit is {cls.width - 1}")
            part = (1 << high + 1) - (1 << low)
            if part & covered:
                raise ValueError(f"{cls.__name__}.{name} {spec.place} overlaps {_owner(cls, part & covered)}")
            covered |= part
    return covered


def _owner(cls: type[Descriptor], bits: int) -> str:
    return next(f"{name} {spec.place}" for name, spec in cls.fields.items() if spec.mask & bits)
