"""A machine described by a TOML file; docs/config.md has the schema."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import asdict, evolve, field, frozen

from viommu._engine import Iotlb
from viommu.errors import BadValue
from viommu.machine import Machine
from viommu.policies import MAINLINE, Policy, VmidOwner
from viommu.service.config_keys import DEVICE, IOTLB, OWNERS, POLICY, REGISTER, TOP, only
from viommu.uapi_profiles import NEWEST
from viommu.vfio.devices import Devices, Plug

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Self

    from viommu.memory import PhysicalMemory

__all__ = ["MachineConfig", "Made"]

FILE_BYTES = 1 << 20


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
        only(document, TOP)
        given = {key.name: key.read(document) for key in TOP}
        return cls(
            driver=given["driver"],
            uapi=given["uapi"],
            registers=_registers(given["registers"]),
            policy=_policy(given["policy"]),
            iotlb=None if given["iotlb"] is None else _iotlb(given["iotlb"]),
            walk_cache_entries=given["walk_cache_entries"],
            sanitize=given["sanitize"],
            devices=tuple(_device(table) for table in given["device"]),
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
        if self.registers and driver is not None and driver != self.driver:
            names = ", ".join(sorted(self.registers)[:4])
            raise BadValue("--driver", driver, f"the file's: it gives registers of {self.driver} ({names})")
        devices = (*self.devices, *(Plug.parse(plug) for plug in plugs))
        return evolve(self, driver=driver or self.driver, devices=devices)

    def _made_iotlb(self) -> Iotlb | None:
        try:
            return None if self.iotlb is None else Iotlb(**self.iotlb)
        except ValueError as error:
            raise BadValue("iotlb", dict(self.iotlb or {}), f"a geometry that can be: {error}") from error

    def make(self, memory: PhysicalMemory | None = None) -> Made:
        """Make the machine (on a memory, where one is given) and plug its devices in.

        Raises as `Machine` and `Devices.add`.
        """
        machine = Machine(
            self.driver,
            memory,
            registers=self.registers or None,
            iotlb=self._made_iotlb(),
            walk_cache_entries=self.walk_cache_entries,
            sanitize=self.sanitize,
            policy=self.policy,
            uapi=self.uapi,
        )
        devices = Devices(machine)
        for plug in self.devices:
            devices.add(plug)
        return Made(machine, devices)


def _registers(table: Mapping[str, Any]) -> dict[str, int]:
    return {name: evolve(REGISTER, name=name).read(table, "registers.") for name in table}


def _policy(table: Mapping[str, Any]) -> Policy:
    only(table, POLICY, "policy.")
    chosen: dict[str, Any] = {key.name: key.read(table, "policy.") for key in POLICY}
    return Policy(**{**chosen, "vmid_owner": OWNERS[chosen["vmid_owner"]]})


def _iotlb(table: Mapping[str, Any]) -> dict[str, Any]:
    only(table, IOTLB, "iotlb.")
    return {key.name: key.read(table, "iotlb.") for key in IOTLB if key.name in table}


def _device(table: object) -> Plug:
    """Read one ``[[device]]``: ``model``, ``at``, and whatever options its model takes."""
    if not isinstance(table, dict):
        raise BadValue("device", table, "a table: [[device]]")
    for key in DEVICE:
        if key.name not in table:
            raise BadValue("device", dict(table), f"one that says its {key.name}")
    model, at = (key.read(table, "device.") for key in DEVICE)
    options = {key: str(value) for key, value in table.items() if key not in {"model", "at"}}
    return Plug.at(model, at, options)
