"""A machine described by a TOML file; docs/running-real-programs.md has the schema."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from attrs import asdict, evolve, field, fields, frozen

from viommu._engine import Iotlb
from viommu.errors import BadValue
from viommu.machine import Machine
from viommu.policies import MAINLINE, Policy, VmidOwner
from viommu.uapi_profiles import NEWEST, PROFILES
from viommu.vfio.devices import Devices, Plug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from viommu.memory import PhysicalMemory

__all__ = ["MachineConfig", "Made"]

T = TypeVar("T")

FILE_BYTES = 1 << 20
CACHE_ENTRIES_LAST = 1 << 24


class Made(NamedTuple):
    """A machine, and what is plugged into it."""

    machine: Machine
    devices: Devices


@frozen
class MachineConfig:
    """What a machine is made from, checked."""

    driver: str = "selftest"
    uapi: str = NEWEST
    registers: Mapping[str, int] = field(factory=dict)
    policy: Policy = MAINLINE
    iotlb: Mapping[str, Any] | None = None
    walk_cache_entries: int = 0
    sanitize: bool = False
    devices: tuple[Plug, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises OSError, BadValue: the table and key, the value, and what it may be."""
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES + 1)
        if len(raw) > FILE_BYTES:
            raise BadValue(f"{path}", f"longer than {FILE_BYTES} bytes", "a description of a machine")
        try:
            return cls.parse(tomllib.loads(raw.decode()))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadValue(f"{path}", "no TOML", f"TOML: {error}") from error

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Check a document. Raises BadValue."""
        _only(document, {key.name for key in fields(cls)} - {"devices"} | {"device"}, "")
        return cls(
            driver=_typed(document, "driver", str, "selftest"),
            uapi=_one_of(document, "uapi", PROFILES, NEWEST),
            registers=_registers(_typed(document, "registers", dict, {})),
            policy=_policy(_typed(document, "policy", dict, {})),
            iotlb=_iotlb(document),
            walk_cache_entries=_bounded(document, "walk_cache_entries", 0, CACHE_ENTRIES_LAST, 0),
            sanitize=_typed(document, "sanitize", bool, False),
            devices=tuple(_device(table) for table in _tables(document, "device")),
        )

    def to_document(self) -> dict[str, Any]:
        """Give a document that `parse` makes the same of."""
        switches: dict[str, Any] = {name: value for name, value in asdict(self.policy).items() if value is True}
        owner = self.policy.vmid_owner
        if owner is not VmidOwner.STAGE2:
            switches["vmid_owner"] = owner.name.lower()
        document: dict[str, Any] = {
            "driver": self.driver,
            "uapi": self.uapi,
            "registers": dict(self.registers),
            "policy": switches,
            "walk_cache_entries": self.walk_cache_entries,
            "sanitize": self.sanitize,
            "device": [{"model": plug.model, "at": plug.address, **plug.options} for plug in self.devices],
        }
        return document if self.iotlb is None else {**document, "iotlb": dict(self.iotlb)}

    def changed(self, driver: str | None, plugs: Iterable[str]) -> Self:
        """Have another driver (None: this one), and more devices, as a command line tells them. Raises BadValue."""
        devices = (*self.devices, *(Plug.parse(plug) for plug in plugs))
        return evolve(self, driver=driver or self.driver, devices=devices)

    def make(self, memory: PhysicalMemory | None = None) -> Made:
        """Make the machine (on a memory, where one is given) and plug its devices in.

        Raises as `Machine` and `Devices.add`.
        """
        machine = Machine(
            self.driver,
            memory,
            registers=self.registers or None,
            iotlb=None if self.iotlb is None else Iotlb(**self.iotlb),
            walk_cache_entries=self.walk_cache_entries,
            sanitize=self.sanitize,
            policy=self.policy,
            uapi=self.uapi,
        )
        devices = Devices(machine)
        for plug in self.devices:
            devices.add(plug)
        return Made(machine, devices)


def _only(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise BadValue("key of the configuration", f"{where}{key}", f"one of: {', '.join(sorted(known))}")


def _typed(table: Mapping[str, Any], key: str, kind: type[T], default: T, where: str = "") -> T:
    value = table.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a string", dict: "a table", bool: "true or false", int: "a whole number", list: "tables"}
        raise BadValue(f"{where}{key}", value, names.get(kind, kind.__name__))
    return value


def _bounded(table: Mapping[str, Any], key: str, least: int, most: int, default: int, where: str = "") -> int:
    value = _typed(table, key, int, default, where)
    if not least <= value <= most:
        raise BadValue(f"{where}{key}", value, f"{least} to {most}")
    return value


def _one_of(table: Mapping[str, Any], key: str, known: tuple[str, ...], default: str, where: str = "") -> str:
    value = _typed(table, key, str, default, where)
    if value not in known:
        raise BadValue(f"{where}{key}", value, f"one of: {', '.join(known)}")
    return value


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = _typed(document, key, list, [])
    for table in found:
        if not isinstance(table, dict):
            raise BadValue(key, table, f"a table: [[{key}]]")
    return found


def _registers(table: Mapping[str, Any]) -> dict[str, int]:
    return {name: _bounded(table, name, 0, (1 << 64) - 1, 0, "registers.") for name in table}


def _policy(table: Mapping[str, Any]) -> Policy:
    switches = {attribute.name for attribute in fields(Policy)}
    _only(table, switches, "policy.")
    chosen: dict[str, Any] = {
        name: _typed(table, name, bool, False, "policy.") for name in table if name != "vmid_owner"
    }
    if "vmid_owner" in table:
        owners = {owner.name.lower(): owner for owner in VmidOwner}
        chosen["vmid_owner"] = owners[_one_of(table, "vmid_owner", tuple(owners), "stage2", "policy.")]
    return Policy(**chosen)


def _iotlb(document: Mapping[str, Any]) -> dict[str, Any] | None:
    if "iotlb" not in document:
        return None
    table = _typed(document, "iotlb", dict, {})
    read: dict[str, Callable[[], Any]] = {
        "entries": lambda: _bounded(table, "entries", 1, CACHE_ENTRIES_LAST, 1024, "iotlb."),
        "ways": lambda: _bounded(table, "ways", 1, 64, 4, "iotlb."),
        "policy": lambda: _one_of(table, "policy", ("lru", "plru", "fifo", "random"), "lru", "iotlb."),
        "seed": lambda: _bounded(table, "seed", 0, (1 << 64) - 1, 0, "iotlb."),
    }
    _only(table, set(read), "iotlb.")
    return {key: read[key]() for key in table}


def _device(table: Mapping[str, Any]) -> Plug:
    """Read one ``[[device]]``: ``model``, ``at``, and whatever options its model takes."""
    for key in ("model", "at"):
        if key not in table:
            raise BadValue("device", dict(table), f"one that says its {key}")
    model, at = (_typed(table, key, str, "", "device.") for key in ("model", "at"))
    options = {key: str(value) for key, value in table.items() if key not in {"model", "at"}}
    return Plug.at(model, at, options)
