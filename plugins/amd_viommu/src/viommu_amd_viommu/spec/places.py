"""Where each register lies (AMD 48882, 3.4): name, offset in bytes, layout.

Names are those that recordings and tests give values by.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import frozen

from viommu_amd_viommu.spec import guest_registers as guests
from viommu_amd_viommu.spec import interrupt_registers as msi
from viommu_amd_viommu.spec import other_registers as other
from viommu_amd_viommu.spec import queue_registers as queues
from viommu_amd_viommu.spec import registers as spec
from viommu_amd_viommu.spec.inferred import CAPABILITY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.layout import Descriptor

SMI_FILTERS = 16
DEVICE_TABLE_SEGMENTS = range(1, 8)
MARCS = 4


@frozen
class Place:
    """One register: its offset, and the layout that tells its width and fields."""

    offset: int
    layout: type[Descriptor]


def _settable() -> Iterator[tuple[str, int, type[Descriptor]]]:
    """Registers that software may set."""
    yield from (
        ("DEVTAB", 0x00, spec.DeviceTableBase),
        ("CMDBASE", 0x08, spec.BufferBase),
        ("EVTBASE", 0x10, spec.BufferBase),
        ("CONTROL", 0x18, spec.Control),
        ("EXCLBASE", 0x20, spec.ExclusionBase),
        ("EXCLLIMIT", 0x28, spec.ExclusionLimit),
        ("PPRBASE", 0x38, spec.BufferBase),
        ("GABASE", 0xE0, spec.BufferBase),
        ("GATAILADDR", 0xE8, queues.GuestApicLogTailAddress),
        ("PPRBBASE", 0xF0, spec.BufferBase),
        ("EVTBBASE", 0xF8, spec.BufferBase),
        ("DSCX", 0x140, other.DeviceSpecific),
        ("MSIADDRLO", 0x15C, msi.MsiAddressLow),
        ("MSIADDRHI", 0x160, msi.MsiAddressHigh),
        ("MSIDATA", 0x164, msi.MsiData),
        ("PERFOPT", 0x16C, other.PerformanceOptimization),
        ("XTEVTINT", 0x170, msi.XTInterrupt),
        ("XTPPRINT", 0x178, msi.XTInterrupt),
        ("XTGAINT", 0x180, msi.XTInterrupt),
        ("CMDHEAD", 0x2000, queues.QueuePointer),
        ("CMDTAIL", 0x2008, queues.QueuePointer),
        ("EVTHEAD", 0x2010, queues.QueuePointer),
        ("EVTTAIL", 0x2018, queues.QueuePointer),
        ("PPRHEAD", 0x2030, queues.QueuePointer),
        ("PPRTAIL", 0x2038, queues.QueuePointer),
        ("GAHEAD", 0x2040, queues.GuestApicLogPointer),
        ("GATAIL", 0x2048, queues.GuestApicLogPointer),
        ("PPRBHEAD", 0x2050, queues.QueuePointer),
        ("PPRBTAIL", 0x2058, queues.QueuePointer),
        ("EVTBHEAD", 0x2070, queues.QueuePointer),
        ("EVTBTAIL", 0x2078, queues.QueuePointer),
        ("PPRAUTORSP", 0x2080, queues.PPRAutoResponse),
        ("PPREARLY", 0x2088, queues.PPROverflowEarly),
        ("PPREARLYB", 0x2090, queues.PPROverflowEarly),
    )
    for number in range(SMI_FILTERS):
        yield f"SMIFILTER{number}", 0x60 + number * 8, other.SmiFilter
    for number in DEVICE_TABLE_SEGMENTS:
        yield f"DEVTAB_SEG{number}", 0x100 + (number - 1) * 8, spec.DeviceTableSegmentBase
    for number in range(MARCS):
        base = 0x200 + number * 24
        yield f"MARC{number}BASE", base, other.MarcBase
        yield f"MARC{number}RELOC", base + 8, other.MarcRelocation
        yield f"MARC{number}LENGTH", base + 16, other.MarcLength


SETTABLE: Mapping[str, Place] = MappingProxyType({name: Place(offset, layout) for name, offset, layout in _settable()})
"""Registers that take what their layout names."""

PLACES: Mapping[str, Place] = MappingProxyType(
    {
        **SETTABLE,
        "EFR": Place(0x30, spec.EFR),
        "HWEVTHI": Place(0x40, other.HardwareEventUpper),
        "HWEVTLO": Place(0x48, other.HardwareEventLower),
        "HWEVTSTATUS": Place(0x50, other.HardwareEventStatus),
        "DSFX": Place(0x138, other.DeviceSpecific),
        "DSSX": Place(0x148, other.DeviceSpecific),
        "MSIVECTOR0": Place(0x150, msi.MsiVector0),
        "MSIVECTOR1": Place(0x154, msi.MsiVector1),
        "MSICAP": Place(0x158, msi.MsiCapabilityHeader),
        "MSIMAP": Place(0x168, msi.MsiMapping),
        "VIOMMUSTATUS": Place(0x190, other.ViommuStatus),
        "EFR2": Place(0x1A0, spec.EFR2),
        "STATUS": Place(0x2020, spec.Status),
        "VSCHDR": Place(CAPABILITY, guests.VscHeader),
        "VFBARLO": Place(CAPABILITY + 0x08, guests.VscBarLow),
        "VFBARHI": Place(CAPABILITY + 0x0C, guests.VscBarHigh),
        "VFCTLBARLO": Place(CAPABILITY + 0x10, guests.VscBarLow),
        "VFCTLBARHI": Place(CAPABILITY + 0x14, guests.VscBarHigh),
        "COUNTERCFG": Place(0x4000, other.CounterConfiguration),
    }
)
"""Every register of the map, but for counter banks."""
