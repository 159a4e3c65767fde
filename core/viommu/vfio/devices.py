"""The PCI devices of a machine that programs may own: what is plugged in where."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from viommu.errors import BadValue, ViommuError
from viommu.ops import DeviceFeatures
from viommu.vfio.catalogue import model_named
from viommu.vfio.function import Function
from viommu.vfio.group_file import Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.machine import Machine

BDF = re.compile(r"(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")


@frozen
class Plug:
    """What is to be plugged in where: ``edu@0000:00:10.0,delay=5``."""

    model: str
    domain: int
    requester: int
    options: Mapping[str, str]

    @classmethod
    def parse(cls, written: str) -> Plug:
        """Read what a user wrote. Raises BadValue."""
        place, *options = written.split(",")
        model, _, address = place.partition("@")
        pairs = dict(option.partition("=")[::2] for option in options)
        if not model:
            raise BadValue("device", written, "MODEL@BDF, such as edu@00:10.0")
        return cls.at(model, address, pairs)

    @classmethod
    def at(cls, model: str, address: str, options: Mapping[str, str]) -> Plug:
        """Put a model at an address, as sysfs writes it or without the domain. Raises BadValue."""
        match = BDF.fullmatch(address)
        if match is None:
            raise BadValue(f"address of {model}", address, "a BDF: MODEL@BDF, such as edu@00:10.0")
        bus, slot, function = (int(match[group], 16) for group in (2, 3, 4))
        return cls(model, int(match[1] or "0", 16), bus << 8 | slot << 3 | function, options)

    @property
    def address(self) -> str:
        """Its address as sysfs writes it."""
        bus, slot, function = self.requester >> 8, self.requester >> 3 & 0x1F, self.requester & 7
        return f"{self.domain:04x}:{bus:02x}:{slot:02x}.{function}"


class Devices:
    """What is plugged into one machine; `vfioN` is the N-th."""

    def __init__(self, machine: Machine) -> None:
        """Begin with none."""
        self._machine = machine
        self._functions: list[Function] = []
        self.groups: list[Group] = []

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions)

    def __getitem__(self, number: int) -> Function:
        return self._functions[number]

    def __len__(self) -> int:
        return len(self._functions)

    def add(self, plug: Plug) -> Function:
        """Plug a device in. Raises BadValue (no such model, options), Busy (place taken), KernelError (the driver)."""
        function = Function(plug.address)
        model = model_named(plug.model).make(function.bus, plug.options)
        features = model.shape.features or DeviceFeatures()
        try:
            endpoint = self._machine.add_device(plug.requester, name=plug.address, **asdict(features))
        except ViommuError as error:
            error.add_note(f"device {plug.model}@{plug.address}")
            raise
        function.plug(model, endpoint)
        self._functions.append(function)
        self.groups.append(Group(function))
        return function
