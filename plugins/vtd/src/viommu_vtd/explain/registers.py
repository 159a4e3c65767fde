"""Registers in words."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_vtd.explain.causes import BAD_POINTER
from viommu_vtd.explain.words import complaints, device, listed
from viommu_vtd.spec import EVENT_REGISTERS, REGISTERS
from viommu_vtd.spec.faults import FSTS
from viommu_vtd.spec.queue_registers import IQERCD, QueueError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

LAYOUTS: Mapping[str, type[Descriptor]] = REGISTERS | EVENT_REGISTERS

STATUS: Mapping[str, str] = {
    "PFO": "fault records overflowed",
    "PPF": "faults are recorded",
    "AFO": "the advanced fault log overflowed",
    "APF": "the advanced fault log is not empty",
    "IQE": "the invalidation queue stopped at a bad descriptor",
    "ICE": "a device answered an invalidation wrongly",
    "ITE": "a device did not answer an invalidation",
    "PRO": "page requests overflowed",
}

QUEUE_CAUSES: Mapping[int, tuple[str, ...]] = {
    QueueError.TAIL: ("IQT was written with an offset beyond IQA.QS, or with reserved bits",),
    QueueError.FETCH: (BAD_POINTER, "IQA is wrong"),
    QueueError.TYPE: (
        "the descriptor at IQH is of a type that this mode lacks",
        "IQA.DW does not say how wide they are",
    ),
    QueueError.RESERVED: ("the descriptor at IQH has reserved bits, a reserved granularity, or AM beyond CAP.MAMV",),
    QueueError.WIDTH: ("scalable mode needs IQA.DW", "IQA.DW needs ECAP.SMTS"),
    QueueError.TAIL_ALIGNMENT: ("IQT is no multiple of 32 bytes while IQA.DW is 1",),
    QueueError.TABLE_MODE: ("RTADDR.TTM is reserved, or not one that ECAP has",),
}


def decode_register(name: str, raw: bytes) -> Decoded:
    """Explain a register."""
    value = LAYOUTS[name].decode(raw)
    meaning, causes = _said(name, value)
    return Decoded(name.lower(), name, value, meaning, complaints(value), causes)


def _said(name: str, value: Descriptor) -> tuple[str, tuple[str, ...]]:
    if isinstance(value, FSTS):
        told = [text for bit, text in STATUS.items() if getattr(value, bit)]
        return f"{listed(told, 'No fault').capitalize()}.", ()
    if isinstance(value, IQERCD):
        return _queue_error(value)
    title = (type(value).__doc__ or name).partition("\n")[0].partition(".")[0].partition(":")[0]
    return f"{title}: {listed(_fields(value), 'all zero')}.", ()


def _queue_error(value: IQERCD) -> tuple[str, tuple[str, ...]]:
    told = []
    if value.IQEI:
        told.append(f"the queue stopped for reason {value.IQEI:d} ({_name(value.IQEI)})")
    if value.ITESID:
        told.append(f"{device(value.ITESID)} did not answer")
    if value.ICESID:
        told.append(f"{device(value.ICESID)} answered wrongly")
    gone = ("the device is gone, hung or in a low-power state", "the device was reset while ATS was enabled")
    return (
        f"{listed(told, 'No error').capitalize()} (as far as IQE, ITE and ICE are set in FSTS).",
        (*QUEUE_CAUSES.get(value.IQEI, ()), *(gone if value.ITESID else ())),
    )


def _fields(value: Descriptor) -> list[str]:
    """What is set: bits by name, other fields with their values."""
    found = []
    for name, spec in value.fields.items():
        number = spec.take(int(value))
        if number and not spec.ignored:
            found.append(name if spec.bits == 1 else f"{name} {_name(number) if spec.of else hex(number)}")
    return found


def _name(value: int) -> str:
    return value.name.lower().replace("_", " ") if isinstance(value, IntEnum) else hex(value)
