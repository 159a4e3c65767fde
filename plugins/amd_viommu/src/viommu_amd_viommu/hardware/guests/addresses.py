"""Memory as the IOMMU itself reaches it: by the tables of some DeviceID's entry, walked anew at each access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from viommu.faults import Access, FaultKind
from viommu.formats import Context, walk
from viommu_amd_viommu import translate
from viommu_amd_viommu.spec.device_table import DTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.hardware.settings import Settings

PAGE_LG2 = 12


@define(eq=False, repr=False)
class TranslatedMemory:
    """Memory behind a device table entry. ``entry`` reads its bytes; None where there is none."""

    memory: PhysicalMemory
    entry: Callable[[], bytes | None]
    settings: Callable[[], Settings]
    _decoded: tuple[bytes, Settings, Context | None] | None = None
    """What the entry came to when it was read last."""

    def read(self, address: int, length: int) -> bytes | None:
        """Give bytes; None where some of them are not there."""
        parts: list[bytes] = []
        for pa, _, size in self._pieces(address, length, Access.READ):
            part = self.memory.read(pa, size)
            if part is None:
                return None
            parts.append(part)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return whole if len(whole) == length else None

    def write(self, address: int, data: bytes) -> bool:
        """Store bytes; False where some of them could not be."""
        pieces = list(self._pieces(address, len(data), Access.WRITE))
        if sum(size for _, _, size in pieces) < len(data):
            return False
        return all(self.memory.write(pa, data[at : at + size]) for pa, at, size in pieces)

    def run_at(self, address: int, length: int) -> tuple[int, int] | None:
        """Give where an address lies, and how many of ``length`` bytes follow it there; None: nowhere."""
        found: tuple[int, int] | None = None
        for pa, at, size in self._pieces(address, length, Access.READ):
            if found is None:
                found = pa, size
            elif pa == found[0] + at:
                found = found[0], at + size
            else:
                break
        return found

    def _pieces(self, address: int, length: int, access: Access) -> Iterator[tuple[int, int, int]]:
        """Cut a range where pages end: (physical address, offset, bytes) of each piece, up to one that is refused."""
        context = self._context()
        at = 0
        while at < length and context is not None:
            result = walk(self.memory.engine, context, address + at, access)
            if FaultKind(result.kind) is not FaultKind.NONE:
                return
            page = 1 << max(result.page_lg2, PAGE_LG2)
            size = min(length - at, page - (address + at) % page)
            yield result.pa, at, size
            at += size

    def _context(self) -> Context | None:
        raw, settings = self.entry(), self.settings()
        if raw is None:
            return None
        if self._decoded is None or self._decoded[0] != raw or self._decoded[1] is not settings:
            self._decoded = raw, settings, _context(DTE.decode(raw), settings)
        return self._decoded[2]


def _context(entry: DTE, settings: Settings) -> Context | None:
    if not (entry.V and entry.TV and entry.Mode):
        return None
    return Context(
        stage2=translate.host_tables(entry, settings),
        stage2_tag=entry.DomainID,
        rights=translate.root_rights(entry),
    )
