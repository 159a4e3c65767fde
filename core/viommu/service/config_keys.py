"""The keys of a file that describes a machine: each with its kind, bounds, default and meaning, stated once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import fields, frozen

from viommu.errors import BadValue
from viommu.policies import Policy, VmidOwner
from viommu.uapi_profiles import NEWEST, PROFILES

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {
    str: "a string",
    dict: "a table",
    bool: "true or false",
    int: "a whole number",
    list: "tables",
}
CACHE_ENTRIES_LAST = 1 << 24
REGISTER_LAST = (1 << 64) - 1


@frozen
class Key:
    """One key. ``least`` and ``most`` bound a number, which may have to be a power of two.

    ``choices`` are what a string may be.
    """

    name: str
    kind: type[Any]
    default: Any
    meaning: str
    least: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()
    is_power: bool = False

    def read(self, table: Mapping[str, Any], where: str = "") -> Any:  # noqa: ANN401 - of its kind
        """Give what a table has, or the default. Raises BadValue: the key, its value, and what it may be."""
        if self.name not in table:
            return self.default
        value = table[self.name]
        if not self._allows(value):
            raise BadValue(f"{where}{self.name}", value, self.may_be)
        return value

    def _allows(self, value: object) -> bool:
        if self.kind is int:
            return type(value) is int and self._allows_number(value)
        return isinstance(value, self.kind) and (not self.choices or value in self.choices)

    def _allows_number(self, value: int) -> bool:
        return self.least <= value <= self.most and not (self.is_power and value & (value - 1))

    @property
    def may_be(self) -> str:
        """Say what it may be."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.kind is int:
            return f"{'a power of two' if self.is_power else 'a whole number'}, {self.least} to {self.most}"
        return KINDS[self.kind]


TOP = (
    Key("driver", str, "selftest", "whose IOMMU it is: the name of an installed driver (`viommu drivers`)"),
    Key("uapi", str, NEWEST, "of which Linux release /dev/iommu is", choices=PROFILES),
    Key("walk_cache_entries", int, 0, "partial walks that are kept", most=CACHE_ENTRIES_LAST),
    Key("sanitize", bool, False, "whether each use of a cache is held against the tables; slow"),
    Key("registers", dict, {}, "values of registers, by the specification's names"),
    Key("policy", dict, {}, "where /dev/iommu is ahead of mainline"),
    Key("iotlb", dict, None, "the IOTLB; without it there is none, and each access walks"),
    Key("device", list, [], "devices that are plugged in, one table each"),
)
IOTLB = (
    Key(
        "entries",
        int,
        1024,
        "how many translations it holds: `ways` at least",
        1,
        CACHE_ENTRIES_LAST,
        is_power=True,
    ),
    Key("ways", int, 4, "how many of them may take each other's place", 1, 64, is_power=True),
    Key("policy", str, "lru", "which one goes", choices=("lru", "plru", "fifo", "random")),
    Key("seed", int, 0, "of the policy `random`", 0, REGISTER_LAST),
)
OWNERS = {owner.name.lower(): owner for owner in VmidOwner}
SWITCHES = {
    "software_queues": "a HW_QUEUE may be one that the host consumes, for hardware that has none (VT-d)",
    "late_stage2": "a vIOMMU may be made before its stage 2",
    "iova_queues": "a HW_QUEUE may lie at an IOVA that hardware translates itself",
    "invalidate_by_viommu": "HWPT_INVALIDATE takes a vIOMMU on every driver whose hardware can",
    "device_tlb_invalidation": "device TLBs are invalidated by a call of their own",
    "viommu_page_requests": "a FAULT may be a vIOMMU's",
    "fault_by_virtual_id": "records of faults name the vDEVICE",
}
POLICY = (
    *(Key(one.name, bool, False, SWITCHES.get(one.name, "")) for one in fields(Policy) if one.name != "vmid_owner"),
    Key("vmid_owner", str, "stage2", "whose the tag of stage 2 is", choices=tuple(OWNERS)),
)
DEVICE = (
    Key("model", str, None, "an installed model (`viommu devices`), or the path of a Python file that is one"),
    Key("at", str, None, "where: a BDF, such as 00:10.0 or 0000:00:10.0"),
)
REGISTER = Key("NAME", int, None, "a register's value at reset", 0, REGISTER_LAST)


def only(table: Mapping[str, Any], keys: tuple[Key, ...], where: str = "") -> None:
    """Refuse keys that there are not. Raises BadValue."""
    known = {key.name for key in keys}
    for name in table:
        if name not in known:
            raise BadValue("key of the configuration", f"{where}{name}", f"one of: {', '.join(sorted(known))}")
