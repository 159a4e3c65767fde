"""Which method of the command unit each opcode is, and its arguments as columns of a whole run of commands."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from attrs import frozen

from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
from viommu_smmuv3_cmdqv.spec.commands import CommandOpcode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.hardware.command_rules import Columns
    from viommu_smmuv3_cmdqv.spec.queue_registers import CommandError

Row: TypeAlias = "tuple[int | None, ...]"
PAGE_LG2 = 12
ADDRESS_LAST = (1 << 64) - 1
WHOLE_SPACE = 52
"""ATC_INV.Size that spans every page there is; larger ones are reserved and act as it."""


@frozen
class Operation:
    """One command: what it does, and how its fields become the arguments of that, a row for each."""

    act: Callable[..., CommandError | None]
    rows: Callable[[Columns, Features], Iterable[Row]]


def _nothing(columns: Columns, _: Features) -> Iterable[Row]:
    return [()] * len(columns["Opcode"])


def _fields(*names: str) -> Callable[[Columns, Features], Iterable[Row]]:
    return lambda columns, _: zip(*(columns[name].tolist() for name in names), strict=True)


def _one_stream(columns: Columns, _: Features) -> Iterable[Row]:
    return [(stream, 1) for stream in columns["SID"].tolist()]


def _stream_range(columns: Columns, _: Features) -> Iterable[Row]:
    for stream, size in zip(columns["SID"].tolist(), columns["Range"].tolist(), strict=True):
        count = 2 << size
        yield stream & -count, count


def _addresses(*names: str, without_asid: bool = False) -> Callable[[Columns, Features], Iterable[Row]]:
    """Rows of the fields, then None if no ASID counts, then first and last address, and Leaf."""

    def rows(columns: Columns, features: Features) -> Iterable[Row]:
        start, last = span(columns, ranges=bool(features.idr3.RIL))
        before = [columns[name].tolist() for name in names]
        if without_asid:
            before.append([None] * len(start))
        return zip(*before, start.tolist(), last.tolist(), columns["Leaf"].tolist(), strict=True)

    return rows


def span(columns: Columns, *, ranges: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """First and last address of each TLBI by address (4.4.1.1); ``ranges``: the SMMU knows ranges (IDR3.RIL).

    Without a range it is one entry of any size that holds the address. TTL is a hint, and is not taken.
    """
    address = _sign_extended(columns["Address"])
    is_range = (columns["TG"] != 0) & ranges
    granule_lg2 = columns["TG"] * 2 + 10
    start = np.where(is_range, address >> granule_lg2 << granule_lg2, address)
    size = np.where(is_range, columns["NUM"] + 1 << columns["SCALE"] + granule_lg2, 1 << PAGE_LG2).astype(np.uint64)
    last = start + (size - np.uint64(1))
    return start, np.where(last < start, np.uint64(ADDRESS_LAST), last)


def _sign_extended(address: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Caches know an address without its ignored top byte (TBI), as bit 55 has it; no other one is ever cached."""
    return ((address << np.uint64(8)).view(np.int64) >> np.int64(8)).view(np.uint64)


def _device_span(columns: Columns, _: Features) -> Iterable[Row]:
    names = ("SID", "SSV", "SSID", "Global", "Size", "Address")
    for stream, valid, substream, whole, size, address in zip(*(columns[n].tolist() for n in names), strict=True):
        length = 1 << PAGE_LG2 + min(size, WHOLE_SPACE)
        start = address & -length
        # A message without a PASID reaches entries of every PASID: software has no other way to drop all.
        yield stream, substream if valid else None, start, start + length - 1, not valid or whole


def _response(columns: Columns, _: Features) -> Iterable[Row]:
    names = ("SID", "SSV", "SSID", "PRGIndex", "Resp")
    for stream, valid, substream, group, code in zip(*(columns[name].tolist() for name in names), strict=True):
        yield stream, substream if valid else None, group, code


OPERATIONS: Mapping[CommandOpcode, Operation] = MappingProxyType(
    {
        CommandOpcode.PREFETCH_CONFIG: Operation(CommandUnit.prefetch, _nothing),
        CommandOpcode.PREFETCH_ADDR: Operation(CommandUnit.prefetch, _nothing),
        CommandOpcode.CFGI_STE: Operation(CommandUnit.forget_streams, _one_stream),
        CommandOpcode.CFGI_STE_RANGE: Operation(CommandUnit.forget_streams, _stream_range),
        CommandOpcode.CFGI_CD: Operation(CommandUnit.forget_substream, _fields("SID", "SSID")),
        CommandOpcode.CFGI_CD_ALL: Operation(CommandUnit.forget_streams, _one_stream),
        CommandOpcode.TLBI_NH_ALL: Operation(CommandUnit.forget_stage1, _fields("VMID")),
        CommandOpcode.TLBI_NH_ASID: Operation(CommandUnit.forget_asid, _fields("VMID", "ASID")),
        CommandOpcode.TLBI_NH_VA: Operation(CommandUnit.forget_range, _addresses("VMID", "ASID")),
        CommandOpcode.TLBI_NH_VAA: Operation(CommandUnit.forget_range, _addresses("VMID", without_asid=True)),
        CommandOpcode.TLBI_EL2_ALL: Operation(CommandUnit.forget_el2, _nothing),
        CommandOpcode.TLBI_EL2_ASID: Operation(CommandUnit.forget_el2_asid, _fields("ASID")),
        CommandOpcode.TLBI_EL2_VA: Operation(CommandUnit.forget_el2_range, _addresses("ASID")),
        CommandOpcode.TLBI_EL2_VAA: Operation(CommandUnit.forget_el2_range, _addresses(without_asid=True)),
        CommandOpcode.TLBI_S12_VMALL: Operation(CommandUnit.forget_vm, _fields("VMID")),
        CommandOpcode.TLBI_S2_IPA: Operation(CommandUnit.forget_ipas, _addresses("VMID")),
        CommandOpcode.TLBI_NSNH_ALL: Operation(CommandUnit.forget_everything, _nothing),
        CommandOpcode.ATC_INV: Operation(CommandUnit.forget_in_device, _device_span),
        CommandOpcode.PRI_RESP: Operation(CommandUnit.answer_pages, _response),
        CommandOpcode.RESUME: Operation(CommandUnit.resume, _fields("SID", "STAG", "Ac", "Ab")),
        CommandOpcode.STALL_TERM: Operation(CommandUnit.terminate, _fields("SID")),
        CommandOpcode.SYNC: Operation(CommandUnit.synchronize, _fields("CS", "MSIAddress", "MSIData")),
    }
)
"""What can be executed. TLBI_EL3_* and CFGI_VMS_PIDM never can: without EL3 in the queue, and without MPAM, they are
illegal."""
