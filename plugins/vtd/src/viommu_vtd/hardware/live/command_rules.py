"""Which descriptors hardware refuses (VT-d 6.5.2.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from viommu_vtd.spec.commands import COMMANDS, TYPE_BITS, Invalidation, InvalidationType
from viommu_vtd.spec.queue_registers import QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu_vtd.spec.registers import CAP, ECAP

LAYOUTS: Mapping[int, type[Invalidation]] = {int(kind): layout for kind, layout in COMMANDS.items()}
"""By type, as a plain number: an enum's constructor takes longer than the rest of a look-up."""

LEGACY_LAST = int(InvalidationType.WAIT)
"""The last type that legacy mode has."""

NEEDS: Mapping[int, str] = {
    InvalidationType.DEVICE_TLB: "DT",
    InvalidationType.INTERRUPT_ENTRY_CACHE: "IR",
    InvalidationType.PASID_DEVICE_TLB: "DT",
    InvalidationType.PAGE_GROUP_RESPONSE: "PRS",
}
"""Types that ECAP has to have."""


@frozen
class Abilities:
    """What decides which descriptors there are."""

    cap: CAP
    ecap: ECAP
    scalable: bool
    """The descriptors of scalable mode exist: it, or abort-DMA mode, is in force."""

    def has(self, kind: int) -> bool:
        """Whether there is such a type."""
        if kind not in LAYOUTS or (kind > LEGACY_LAST and not self.scalable):
            return False
        need = NEEDS.get(kind)
        return need is None or bool(getattr(self.ecap, need))


def type_of(value: int) -> int:
    """The type of a descriptor."""
    (high, low), (upper_high, upper_low) = TYPE_BITS
    lower = value >> low & (1 << high - low + 1) - 1
    return lower | (value >> upper_low & (1 << upper_high - upper_low + 1) - 1) << high - low + 1


def judged(raw: bytes, able: Abilities) -> Invalidation | QueueError:
    """Decode a descriptor of either width, or say why hardware refuses it."""
    value = int.from_bytes(raw, "little")
    kind = type_of(value)
    if not able.has(kind):
        return QueueError.TYPE
    layout = LAYOUTS[kind]
    if value >> layout.width or value & layout.reserved_mask:
        return QueueError.RESERVED
    command = layout.decode(value)
    judge = JUDGES.get(kind)
    return QueueError.RESERVED if judge is not None and judge(command, able) else command


def _iotlb(command: Any, able: Abilities) -> bool:  # noqa: ANN401 - each has its own fields
    """PSI and MAMV bound page-selective invalidations of this type alone."""
    return not command.G or (command.G == 3 and (not able.cap.PSI or command.AM > able.cap.MAMV))


def _interrupt_entries(command: Any, able: Abilities) -> bool:  # noqa: ANN401
    return bool(command.G == 1 and command.IM > able.ecap.MHMV)


JUDGES: Mapping[int, Callable[[Any, Abilities], bool]] = {
    InvalidationType.CONTEXT_CACHE: lambda command, _: not command.G,
    InvalidationType.IOTLB: _iotlb,
    InvalidationType.INTERRUPT_ENTRY_CACHE: _interrupt_entries,
    InvalidationType.WAIT: lambda command, able: bool(command.PD and not able.ecap.PDS),
    InvalidationType.PASID_IOTLB: lambda command, _: command.G < 2,
    InvalidationType.PASID_CACHE: lambda command, _: command.G == 2,
}
"""By type, whether a descriptor holds a value that does not exist."""
