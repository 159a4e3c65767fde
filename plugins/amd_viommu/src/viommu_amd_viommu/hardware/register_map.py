"""Where each register lies, and what software may store in it (AMD 48882, 3.4).

Names are those that recordings and tests give values by. What software programs of the capability block in PCI
configuration space is mirrored here whether or not EFR.MsiCapMmio says so: there is no configuration space.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.registers import Register
from viommu_amd_viommu.spec import interrupt_registers as msi
from viommu_amd_viommu.spec import other_registers as other
from viommu_amd_viommu.spec import queue_registers as queues
from viommu_amd_viommu.spec import registers as spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from viommu.layout import Descriptor

READ_ONLY = 0
SMI_FILTERS = 16
DEVICE_TABLE_SEGMENTS = range(1, 8)
MARCS = 4

STATUS_CLEARS = int(
    spec.Status(
        EventOverflow=1,
        EventLogInt=1,
        ComWaitInt=1,
        PPROverflow=1,
        PPRInt=1,
        GALogOverflow=1,
        GALogInt=1,
        PPROverflowB=1,
        EventOverflowB=1,
        PPROverflowEarlyB=1,
        PPROverflowEarly=1,
    )
)
_MSI_SETS = int(msi.MsiCapabilityHeader(MsiEn=1, MsiMultMessEn=7))
_HEV_CLEARS = int(other.HardwareEventStatus(HEV=1, HEO=1))


def _single() -> Iterator[tuple[str, int, type[Descriptor]]]:
    """Registers that take what their layout names."""
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


REGISTERS: Mapping[str, Register] = MappingProxyType(
    {
        **{name: Register(offset, layout) for name, offset, layout in _single()},
        "EFR": Register(0x30, spec.EFR, READ_ONLY),
        "HWEVTHI": Register(0x40, other.HardwareEventUpper, READ_ONLY),
        "HWEVTLO": Register(0x48, other.HardwareEventLower, READ_ONLY),
        "HWEVTSTATUS": Register(0x50, other.HardwareEventStatus, READ_ONLY, clears=_HEV_CLEARS),
        "DSFX": Register(0x138, other.DeviceSpecific, READ_ONLY),
        "DSSX": Register(0x148, other.DeviceSpecific, READ_ONLY),
        "MSIVECTOR0": Register(0x150, msi.MsiVector0, READ_ONLY),
        "MSIVECTOR1": Register(0x154, msi.MsiVector1, READ_ONLY),
        "MSICAP": Register(0x158, msi.MsiCapabilityHeader, _MSI_SETS),
        "MSIMAP": Register(0x168, msi.MsiMapping, READ_ONLY),
        "VIOMMUSTATUS": Register(0x190, other.ViommuStatus, READ_ONLY),
        "EFR2": Register(0x1A0, spec.EFR2, READ_ONLY),
        "STATUS": Register(0x2020, spec.Status, READ_ONLY, clears=STATUS_CLEARS),
        "COUNTERCFG": Register(0x4000, other.CounterConfiguration, READ_ONLY),
    }
)
"""Every register of the map, but for counter banks: there are no counters."""
