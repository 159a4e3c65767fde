"""Finds drivers by entry point, checks what they promise, and binds one."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pluggy
from attrs import field, frozen

from viommu import hookspecs
from viommu.addresses import PASID_BITS
from viommu.errors import BadValue, BrokenDriver, DriverBug, UnknownDriver, ViommuError, told
from viommu.hookspecs import COMPANIONS, ENTRY_POINT_GROUP, HOOKSPEC_VERSION, DriverInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform

__all__ = [
    "BoundDriver",
    "Drivers",
    "Origin",
    "bind",
    "bind_plugin",
    "discover",
]

REQUESTER_BITS = 32
"""The widest requester id there is (an SMMU's StreamID)."""

LIVE_METHODS = ("read", "write", "record", "admit", "complete", "page_request", "cure")
"""What `viommu.hookspecs.LiveHardware` has beyond a HardwareModel."""

HOOKS = ("viommu_driver_info", "viommu_hardware", "viommu_layouts")


@frozen
class Origin:
    """Which installed distribution a driver comes from."""

    name: str
    distribution: str = "an object that no distribution offers"
    version: str = ""

    def broken(self, reason: str) -> BrokenDriver:
        """Make the error that tells of this driver."""
        return BrokenDriver(self.name, self.distribution, self.version, reason)


@frozen(eq=False)
class BoundDriver:
    """One driver with a plugin manager of its own: hooks reach it, the wrappers around it, and nobody else.

    Whatever it raises that is no `ViommuError`, or None where it owes a value, is a DriverBug.
    """

    origin: Origin
    info: DriverInfo
    _manager: pluggy.PluginManager = field(repr=False)

    def layouts(self) -> Mapping[str, type[Descriptor]]:
        """Give the driver's structures by the specification's name. Raises DriverBug."""
        layouts: Mapping[str, type[Descriptor]] = self._call("viommu_layouts")
        return layouts

    def hardware(self, memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
        """Make the silicon of one IOMMU instance. Raises BadRegister, DriverBug."""
        model: HardwareModel = self._call("viommu_hardware", memory=memory, registers=registers, platform=platform)
        for method in ("configure", "report"):
            if not callable(getattr(model, method, None)):
                raise DriverBug(self.info.name, "viommu_hardware", f"a {type(model).__name__} has no {method}()")
        has = [method for method in ("read", "write") if hasattr(model, method)]
        missing = [method for method in LIVE_METHODS if not callable(getattr(model, method, None))]
        if has and missing:  # or it would be taken for one without registers, and lose every write
            what = f"a {type(model).__name__} has {' and '.join(has)}, but lacks {', '.join(missing)} of LiveHardware"
            raise DriverBug(self.info.name, "viommu_hardware", what)
        return model

    def kinds(self) -> Mapping[str, tuple[int, ...]]:
        """Name what `decode` explains, with the sizes in bytes; nothing where the driver explains nothing."""
        kinds: Mapping[str, tuple[int, ...]] = self._ask("viommu_kinds") or {}
        return kinds

    def decode(self, kind: str, raw: bytes) -> Decoded:
        """Explain bytes of a kind and size that `kinds` names. Raises DriverBug."""
        decoded: Decoded = self._call("viommu_decode", kind=kind, raw=raw)
        return decoded

    def log_line(self, line: str) -> tuple[str, bytes] | None:
        """Recognise a line of this driver's kernel log: (kind, bytes). Raises DriverBug."""
        found: tuple[str, bytes] | None = self._ask("viommu_log_line", line=line)
        return found

    @property
    def observed(self) -> bool:
        """Whether any plugin implements `viommu_observe`."""
        return bool(self._manager.hook.viommu_observe.get_hookimpls())

    def observe(self, event: str, facts: Mapping[str, object]) -> None:
        """Tell plugins of something on the control path. Raises DriverBug."""
        self._ask("viommu_observe", event=event, facts=facts)

    def implements(self, hook: str) -> bool:
        """Say whether the driver has the hook."""
        return any(not (impl.wrapper or impl.hookwrapper) for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def call(self, hook: str, **arguments: object) -> Any:  # noqa: ANN401 - each hook has its own type
        """Call a hook of the driver face that owes a value. Raises KernelError, DriverBug."""
        return self._call(hook, **arguments)

    def ask(self, hook: str, **arguments: object) -> Any:  # noqa: ANN401 - each hook has its own type
        """Call a hook of the driver face that may answer None, or is not there. Raises KernelError, DriverBug."""
        return self._ask(hook, **arguments)

    def _call(self, hook: str, **arguments: object) -> Any:  # noqa: ANN401 - each hook has its own type
        value = self._ask(hook, **arguments)
        if value is None:
            raise DriverBug(self.info.name, hook, "it returned None where it owes a value")
        return value

    def _ask(self, hook: str, **arguments: object) -> Any:  # noqa: ANN401 - each hook has its own type
        try:
            return getattr(self._manager.hook, hook)(**arguments)
        except ViommuError:
            raise
        except Exception as error:
            raise DriverBug(self.info.name, hook, told(error)) from error


@frozen
class Drivers:
    """What is installed: drivers that work, and those that do not, with the reason. Both by name."""

    working: tuple[BoundDriver, ...]
    broken: tuple[BrokenDriver, ...]


def discover() -> Drivers:
    """Load and check every installed driver; one that is broken hides no other."""
    working: list[BoundDriver] = []
    broken: list[BrokenDriver] = []
    for entries in _installed().values():
        try:
            working.append(_bind_entries(entries, ()))
        except BrokenDriver as error:
            broken.append(error)
    return Drivers(tuple(working), tuple(broken))


def bind(name: str, wrappers: Iterable[object] = ()) -> BoundDriver:
    """Bind an installed driver, loading no other. Raises UnknownDriver, BrokenDriver, BadValue (a wrapper).

    ``wrappers`` are plugins whose hook implementations all say ``wrapper=True``; the first is the outermost.
    """
    installed = _installed()
    if name not in installed:
        raise UnknownDriver(name, tuple(installed))
    return _bind_entries(installed[name], wrappers)


def bind_plugin(plugin: object, wrappers: Iterable[object] = ()) -> BoundDriver:
    """Bind a driver that is at hand, installed or not, as its tests do. Raises as `bind`."""
    name = getattr(plugin, "__name__", type(plugin).__name__)
    return _bind_checked(Origin(str(name)), plugin, wrappers, named=False)


def installed_origins(name: str) -> tuple[Origin, ...]:
    """Say which distributions offer a driver of a name, without loading any."""
    return tuple(origin_of(entry) for entry in _installed().get(name, ()))


def _installed() -> dict[str, list[EntryPoint]]:
    """Every entry point of our group, by name; each name should have one."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        found.setdefault(entry.name, []).append(entry)
    return found


def _bind_entries(entries: Sequence[EntryPoint], wrappers: Iterable[object]) -> BoundDriver:
    entry = entries[0]
    origin = origin_of(entry)
    if len(entries) > 1:
        others = ", ".join(origin_of(other).distribution for other in entries[1:])
        raise origin.broken(f"{others} offers a driver of the same name; uninstall one of them")
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:
        raise origin.broken(f"loading {entry.value} failed: {told(error)}") from error
    return _bind_checked(origin, plugin, wrappers, named=True)


def origin_of(entry: EntryPoint) -> Origin:
    """Say which distribution offers an entry point."""
    if entry.dist is None:
        return Origin(entry.name)
    return Origin(entry.name, entry.dist.name, entry.dist.version)


def _bind_checked(origin: Origin, plugin: object, wrappers: Iterable[object], *, named: bool) -> BoundDriver:
    """Check every promise that can be checked without hardware, the cheapest first."""
    manager = pluggy.PluginManager("viommu")
    manager.add_hookspecs(hookspecs)
    try:
        version = getattr(plugin, "hookspec_version", None)
        if version == HOOKSPEC_VERSION:
            manager.register(plugin, name=origin.name)
            manager.check_pending()
    except Exception as error:  # pluggy reads every attribute of the plugin: anything may happen
        raise origin.broken(told(error)) from error
    if version != HOOKSPEC_VERSION:
        raise origin.broken(f"its hookspec_version is {version!r}, this viommu speaks {HOOKSPEC_VERSION}")
    if missing := [hook for hook in HOOKS if not _has(manager, hook)]:
        raise origin.broken(f"it does not implement {', '.join(missing)}")
    for giver, companions in COMPANIONS.items():
        missing = [hook for hook in companions if _has(manager, giver) and not _has(manager, hook)]
        if missing:
            raise origin.broken(f"it implements {giver}, but not {', '.join(missing)}, which that is of no use without")
    info = _checked_info(origin, manager, named=named)
    for wrapper in reversed(list(wrappers)):
        _register_wrapper(manager, wrapper, getattr(wrapper, "__name__", type(wrapper).__name__))
    return BoundDriver(origin, info, manager)


def _has(manager: pluggy.PluginManager, hook: str) -> bool:
    return bool(getattr(manager.hook, hook).get_hookimpls())


def _checked_info(origin: Origin, manager: pluggy.PluginManager, *, named: bool) -> DriverInfo:
    try:
        info = manager.hook.viommu_driver_info()
    except Exception as error:
        raise origin.broken(f"viommu_driver_info raised {told(error)}") from error
    if not isinstance(info, DriverInfo):
        raise origin.broken(f"viommu_driver_info returned {type(info).__name__}, not DriverInfo")
    if named and info.name != origin.name:
        raise origin.broken(f"viommu_driver_info says {info.name!r}, its entry point {origin.name!r}")
    for what, value, first, last in (
        ("requester_bits", info.requester_bits, 1, REQUESTER_BITS),
        ("pasid_bits", info.pasid_bits, 0, PASID_BITS),
    ):
        if not _is_within(value, first, last):
            raise origin.broken(f"DriverInfo.{what} is {value!r}, not {first} to {last}")
    return info


def _is_within(value: object, first: int, last: int) -> bool:
    return isinstance(value, int) and first <= value <= last


def _register_wrapper(manager: pluggy.PluginManager, wrapper: object, name: str) -> None:
    """Add a wrapper plugin; an implementation that is no wrapper would answer in the driver's place."""
    try:
        manager.register(wrapper, name=f"wrapper {name}, {id(wrapper):#x}")
        manager.check_pending()
    except Exception as error:
        raise BadValue("wrapper plugin", name, f"usable: {told(error)}") from error
    for call in manager.get_hookcallers(wrapper) or ():
        if call.name == "viommu_observe":  # all see it: nobody answers in the driver's place
            continue
        for impl in call.get_hookimpls():
            if impl.plugin is wrapper and not (impl.wrapper or impl.hookwrapper):
                raise BadValue("wrapper plugin", name, f"only made of wrappers: its {call.name} lacks wrapper=True")
