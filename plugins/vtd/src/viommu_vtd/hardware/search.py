"""One search through the tables in memory: reading a structure, checking it, refusing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field, frozen

from viommu.faults import Refusal
from viommu_vtd.spec.faults import UNQUALIFIED, FaultReason

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu_vtd.hardware.capabilities import RemappingUnit

D = TypeVar("D", bound="Descriptor")


@frozen
class Reasons:
    """The faults of one structure: it cannot be read, is not present, or has reserved bits set."""

    access: FaultReason
    not_present: FaultReason
    reserved: FaultReason


@define
class Search:
    """The way from the root table to what governs one request, as far as it has come."""

    unit: RemappingUnit
    memory: PhysicalMemory
    log: ConfigurationLog
    silenced: bool = field(default=False, init=False)
    """FPD was set in a structure on the way."""

    def entry(
        self, layout: type[D], address: int, reasons: Reasons, *, present: str = "P", half: int = -1
    ) -> D | Refusal:
        """Read a structure that must be present, with nothing in reserved bits; ``half`` masks what is looked at.

        FPD counts even in an entry that is not present.
        """
        raw = self.memory.read(address, layout.size)
        self.log.fetched(layout, address, raw)
        if raw is None:
            return self.refuse(reasons.access, "no memory there", address)
        entry = layout.decode(raw)
        if "FPD" in layout.fields and getattr(entry, "FPD"):  # noqa: B009 - not every layout has it
            self.silenced = True
        if not getattr(entry, present):
            return self.refuse(reasons.not_present, f"{present} is 0")
        if wrong := int(entry) & self.unit.reserved[layout] & half:
            return self.refuse(reasons.reserved, f"reserved bits are set: {wrong:#x}")
        return entry

    def refuse(self, reason: FaultReason, why: str, address: int | None = None) -> Refusal:
        """Refuse; silently where FPD was met and the fault is one that it silences."""
        suppressed = self.silenced and reason not in UNQUALIFIED
        self.log.note(f"refused, {reason:#x} ({reason.name}): {why}" + (", silenced by FPD" if suppressed else ""))
        return Refusal(reason=f"{reason:#x}", code=int(reason), address=address, suppressed=suppressed, detail=why)
