"""The PCI devices of a machine that programs may own: which models there are, and what is plugged in where."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pluggy
from attrs import asdict, frozen

from viommu import modelspecs
from viommu.drivers import origin_of
from viommu.errors import BadValue, ViommuError, told
from viommu.modelspecs import ENTRY_POINT_GROUP, ModelInfo
from viommu.ops import DeviceFeatures
from viommu.vfio.function import Function
from viommu.vfio.group_file import Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

    from viommu.machine import Machine
    from viommu.modelspecs import Bus, DeviceModel

BDF = re.compile(r"(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")


@frozen(eq=False)
class Model:
    """One installed model."""

    info: ModelInfo
    _manager: pluggy.PluginManager

    def make(self, bus: Bus, options: Mapping[str, str]) -> DeviceModel:
        """Make a device. Raises BadValue (an option), or what the model does."""
        for name in options:
            if name not in self.info.options:
                known = ", ".join(sorted(self.info.options)) or "none"
                raise BadValue(f"option of {self.info.name}", name, f"one of: {known}")
        made: DeviceModel = self._manager.hook.viommu_model(bus=bus, options=options)
        return made


def models() -> dict[str, Model]:
    """Load the installed models, by name. Raises BrokenDriver."""
    return {entry.name: _loaded(entry) for entry in sorted(entry_points(group=ENTRY_POINT_GROUP))}


def _loaded(entry: EntryPoint) -> Model:
    origin = origin_of(entry)
    manager = pluggy.PluginManager("viommu.devices")
    manager.add_hookspecs(modelspecs)
    try:
        manager.register(entry.load(), name=entry.name)
        manager.check_pending()
        info = manager.hook.viommu_model_info()
    except Exception as error:
        raise origin.broken(told(error)) from error
    if not isinstance(info, ModelInfo) or info.name != entry.name:
        raise origin.broken("viommu_model_info does not give its ModelInfo")
    return Model(info, manager)


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
        known = models()
        if plug.model not in known:
            raise BadValue("device model", plug.model, f"one of: {', '.join(known)}")
        function = Function(plug.address)
        model = known[plug.model].make(function, plug.options)
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
