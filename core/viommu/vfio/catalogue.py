"""Which device models there are: those that are installed, and those of a Python file."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy
from attrs import frozen

from viommu import modelspecs
from viommu.drivers import Origin, origin_of
from viommu.errors import BadValue, BrokenDriver, told
from viommu.modelspecs import ENTRY_POINT_GROUP, ModelInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from viommu.modelspecs import Bus, DeviceModel


@frozen(eq=False)
class Model:
    """One installed model."""

    info: ModelInfo
    origin: Origin
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


def discover() -> tuple[list[Model], list[BrokenDriver]]:
    """Load the installed models, and say which of them are broken."""
    working: list[Model] = []
    broken: list[BrokenDriver] = []
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP)):
        try:
            working.append(_loaded(entry))
        except BrokenDriver as error:
            broken.append(error)
    return working, broken


def model_named(name: str) -> Model:
    """Give an installed model, or the one of a Python file, whose path ends in .py. Raises BadValue, BrokenDriver."""
    if name.endswith(".py"):
        return _of_file(Path(name))
    known = {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINT_GROUP))}
    if name not in known:
        raise BadValue("device model", name, f"one of: {', '.join(known)}; or the path of a .py file")
    return _loaded(known[name])


def _loaded(entry: EntryPoint) -> Model:
    origin = origin_of(entry)
    try:
        made = _made_of(entry.load(), entry.name, origin)
    except Exception as error:
        raise origin.broken(told(error)) from error
    if made.info.name != entry.name:
        raise origin.broken("viommu_model_info does not give the name of the entry point")
    return made


def _of_file(path: Path) -> Model:
    if not path.is_file():
        raise BadValue("device model", str(path), "a Python file")
    origin = Origin(str(path), "a file", "")
    spec = spec_from_file_location(f"viommu_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise origin.broken("it is no Python module")
    try:
        module = module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses, and whoever else resolves annotations, look
        spec.loader.exec_module(module)
        return _made_of(module, path.stem, origin)
    except Exception as error:
        raise origin.broken(told(error)) from error


def _made_of(plugin: object, name: str, origin: Origin) -> Model:
    manager = pluggy.PluginManager("viommu.devices")
    manager.add_hookspecs(modelspecs)
    manager.register(plugin, name=name)
    manager.check_pending()
    info = manager.hook.viommu_model_info()
    if not isinstance(info, ModelInfo):
        raise TypeError("viommu_model_info does not give a ModelInfo")
    return Model(info, origin, manager)
