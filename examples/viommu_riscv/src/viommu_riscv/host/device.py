"""One device behind an IOMMU, as the IOMMU's driver knows it: what governs it, and the contexts that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from viommu_riscv.host import entries, requests
from viommu_riscv.host.directories import install, process_directory, remove
from viommu_riscv.host.domains import FirstStageDomain
from viommu_riscv.host.nested import NestedDomain
from viommu_riscv.host.requests import EVERYTHING

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice

    from viommu_riscv.host.directories import Directory
    from viommu_riscv.host.domains import PagingDomain
    from viommu_riscv.host.unit import Unit
    from viommu_riscv.spec.commands import Command
    from viommu_riscv.spec.directories import DeviceContext

    AnyDomain: TypeAlias = PagingDomain | NestedDomain

NO_PROCESS = 0
"""The PASID by which iommufd means requests without one; a process directory has their context there (DPE)."""


@define(eq=False, repr=False)
class HostDevice:
    """A device. ``ats``, ``page_requests`` and ``processes`` (how many; 0: none) are what it has and its IOMMU allows.

    While something is attached to a PASID it has a process directory; else its device context says all.
    """

    physical: PhysicalDevice
    unit: Unit
    id: int
    ats: bool = False
    page_requests: bool = False
    processes: int = 0
    directory: Directory | None = None
    attached: dict[int, AnyDomain] = field(factory=dict)
    """Domains by PASID; 0: requests without."""

    @classmethod
    def of(cls, physical: PhysicalDevice, unit: Unit) -> HostDevice:
        """Say what of a device's features its IOMMU allows: page requests need ATS."""
        features = physical.features
        ats = bool(features.ats and unit.able.capabilities.ATS)
        processes = min(1 << features.pasid_bits, unit.able.processes) if features.pasid_bits else 0
        return cls(physical, unit, physical.requester, ats, ats and features.page_requests, processes)

    def probe(self) -> None:
        """Let the IOMMU know it, blocked. Raises NoMemory."""
        with self.unit.lock:
            self.unit.directory.find(self.id)
            self.unit.devices[self.id] = self

    def release(self) -> None:
        """Let the IOMMU forget it; nothing is attached."""
        with self.unit.lock:
            del self.unit.devices[self.id]
            self._drop_directory()

    def prepare(self, process: int) -> None:
        """Have room for the context of a process. Raises NoMemory."""
        if process == NO_PROCESS:
            return
        unit = self.unit
        if self.directory is None:
            self.directory = process_directory(unit.memory, unit.frames, unit.able.process_mode)
        for number in (process, NO_PROCESS):
            self.directory.find(number)

    def set(self, process: int, domain: AnyDomain | None) -> None:
        """Let a domain, or nothing, govern requests of a process; no cache remembers what did."""
        was_split = self._is_split
        if domain is None:
            self.attached.pop(process, None)
        else:
            self.attached[process] = domain
        if was_split and self._is_split:
            self._set_process(process)
        else:
            self._set_device()

    def forget_tlb(self, process: int) -> list[Command]:
        """Give the commands that empty its TLB of one process."""
        return [requests.device_tlb(self.id, process or None, EVERYTHING)] if self.ats else []

    def empty_tlb(self) -> list[Command]:
        """Give the commands that empty its TLB: of processes too, of which a guest may have some that nobody knows."""
        of_processes = [requests.device_tlb_of_processes(self.id)] if self.ats and self.processes else []
        return [*self.forget_tlb(NO_PROCESS), *of_processes]

    @property
    def _is_split(self) -> bool:
        """Whether requests are told apart by their process."""
        return any(process != NO_PROCESS for process in self.attached)

    def _set_process(self, process: int) -> None:
        """Put one process's context in the place of another."""
        assert self.directory is not None  # noqa: S101 - it was prepared
        unit, at = self.unit, self.directory.find(process)
        remove(unit.memory, at)
        unit.submit([requests.process_context(self.id, process), *self.forget_tlb(process)])
        self._install_process(process)

    def _set_device(self) -> None:
        """Put the device context in the place of another: between the two, all is refused."""
        unit, at = self.unit, self.unit.directory.find(self.id)
        remove(unit.memory, at)
        unit.submit([requests.device_context(self.id), *self.empty_tlb()])
        if self.directory is not None:
            remove(unit.memory, self.directory.find(NO_PROCESS))
        if self._is_split:
            for process in self.attached:
                self._install_process(process)
        else:
            self._drop_directory()
        context = self._context()
        if context is not None:
            install(unit.memory, at, context)

    def _context(self) -> DeviceContext | None:
        if self._is_split:
            assert self.directory is not None  # noqa: S101 - it was prepared
            return entries.split(self, self.directory.root)
        domain = self.attached.get(NO_PROCESS)
        if domain is None:
            return None
        return domain.context(self) if isinstance(domain, NestedDomain) else entries.paging(self, domain)

    def _install_process(self, process: int) -> None:
        domain = self.attached.get(process)
        if isinstance(domain, FirstStageDomain) and self.directory is not None:
            privileged = self.physical.features.pasid_privileged
            context = entries.process(domain, domain.tags[self.unit], privileged=privileged)
            install(self.unit.memory, self.directory.find(process), context)

    def _drop_directory(self) -> None:
        if self.directory is not None:
            self.directory.free()
            self.directory = None
