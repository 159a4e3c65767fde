"""`RiscvIommu`: one IOMMU, as software programs it and as devices meet it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, evolve, field
from viommu.faults import Access
from viommu.hardware import Silence
from viommu.platform import Completion
from viommu.registers import RegisterFile
from viommu.translation import Translation

from viommu_riscv.hardware import ats, cures, reporting
from viommu_riscv.hardware.command_queue import CommandQueue
from viommu_riscv.hardware.commands import Commands
from viommu_riscv.hardware.contexts import MRIF, Configuration
from viommu_riscv.hardware.directories import Search
from viommu_riscv.hardware.fault_queue import FaultQueue
from viommu_riscv.hardware.interrupts import Interrupts
from viommu_riscv.hardware.page_requests import PageRequests
from viommu_riscv.hardware.reactions import kept, react
from viommu_riscv.hardware.register_map import registers as declared
from viommu_riscv.hardware.resident import file_at
from viommu_riscv.hardware.settings import Settings
from viommu_riscv.hardware.words import in_memory
from viommu_riscv.spec.records import TransactionType
from viommu_riscv.spec.registers import Ddtp, Fctl

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.formats import Context
    from viommu.hookspecs import Registers
    from viommu.memory import PhysicalMemory
    from viommu.platform import PageRequest, Platform, RequestKind
    from viommu.stale import StaleUse


@define(eq=False, repr=False)
class RiscvIommu:
    """One IOMMU: a `viommu.hookspecs.RedirectingHardware`."""

    memory: PhysicalMemory
    file: RegisterFile
    settings: Settings
    platform: Platform
    faults: FaultQueue = field(init=False)
    interrupts: Interrupts = field(init=False)
    commands: CommandQueue = field(init=False)
    page_requests: PageRequests = field(init=False)
    _applies: Lock = field(factory=Lock, init=False)
    """Held from the look at the registers until they count."""

    @classmethod
    def of(cls, memory: PhysicalMemory, registers: Registers, platform: Platform) -> RiscvIommu:
        """Make one as software left it. Raises BadRegister where the registers describe no such IOMMU."""
        settings = Settings.of(registers)
        file = RegisterFile.of(declared(settings.able), registers)
        file["CAPABILITIES"] = int(settings.able)
        return cls(memory, file, settings, platform)

    def __attrs_post_init__(self) -> None:
        bits = self.settings.address_bits
        self.faults = FaultQueue(self.file, self.memory, self.platform, bits)
        self.interrupts = Interrupts(self.file, self.platform, bits, self.faults.tell_unsent)
        self.faults.interrupts = self.interrupts
        others = Commands(self.file, self.memory, self.platform, self.settings)
        self.commands = CommandQueue(self.file, self.memory, self.platform, others)
        self.page_requests = PageRequests(
            self.file, self.memory, self.platform, lambda: self.settings, self.faults, self.interrupts
        )

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """What governs one (device_id, process_id)."""
        return self._configuration(log).context(requester, pasid)

    def report(self, fault: Fault) -> Report:
        """The record that tells of a refused access; none while the fault queue is off."""
        cause = reporting.cause_of(fault)
        if reporting.silent(fault, cause) or not self.faults.active:
            return reporting.told(cause, None)
        record = reporting.record_of(fault, cause, reporting.transaction_of(fault))
        return reporting.told(cause, in_memory(record.encode(), big_endian=self.settings.big_endian))

    def record(self, fault: Fault) -> Report:
        """Queue the record."""
        self._tell(fault, reporting.transaction_of(fault))
        return self.report(fault)

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        return self.file.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what that starts is done on return."""
        for store in self.file.write(offset, size, value, kept):
            react(self, store)

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Whether a device may use ATS: tc.EN_ATS says so."""
        return ats.admit(self._configuration(log), requester, pasid, kind)

    def complete(self, fault: Fault) -> Completion:
        """Tell the device alone, or record as well what is misconfigured."""
        end = ats.completion(reporting.cause_of(fault))
        if end is not Completion.NO_ACCESS:
            self._tell(fault, TransactionType.TRANSLATION_REQUEST)
        return end

    def granted(self, requester: int, pasid: int | None, translation: Translation) -> Translation | Completion:
        """Say what a device is told of a translation: the guest's address with T2GPA, nothing of an interrupt file."""
        del pasid
        if translation.attrs2 & MRIF:
            return Completion.UNTRANSLATED_ONLY
        search = Search(self.settings, self.memory, Silence())
        context = search.device_context(requester)
        if not getattr(context, "T2GPA", 0):
            return _readable(translation, translation.pa)
        return _readable(translation, translation.ipa)

    def page_request(self, request: PageRequest) -> None:
        """Queue it, or answer it."""
        self.page_requests.take(request)

    def cure(self, use: StaleUse) -> str:
        """Name the command that would have prevented a stale use."""
        return cures.cure(use)

    def store(self, requester: int, pasid: int | None, translation: Translation, data: bytes) -> bool | None:
        """Take a write to a page that leads to no memory: a memory-resident interrupt file."""
        del pasid
        if not translation.attrs2 & MRIF:
            return None
        found = file_at(Search(self.settings, self.memory, Silence()), requester, translation.ipa)
        offset = translation.iova & 0xFFF
        return found is not None and found.takes(self.memory, self.platform, offset, data)

    def load(self, requester: int, pasid: int | None, translation: Translation, length: int) -> bytes | None:
        """Read from a page that leads to no memory: the access is aborted."""
        del requester, pasid, length
        return b"" if translation.attrs2 & MRIF else None

    def apply(self) -> None:
        """Go by the registers as they are now: cached configuration was made by the old ones."""
        with self._applies:
            ddtp, control = self.file.decoded("DDTP", Ddtp), self.file.decoded("FCTL", Fctl)
            self.settings = evolve(self.settings, ddtp=ddtp, control=control)
            self.commands.change(self.settings)
        self.platform.caches.invalidate_contexts()

    def _configuration(self, log: ConfigurationLog) -> Configuration:
        return Configuration(Search(self.settings, self.memory, log))

    def _tell(self, fault: Fault, transaction: TransactionType) -> None:
        cause = reporting.cause_of(fault)
        if not reporting.silent(fault, cause):
            self.faults.tell(reporting.record_of(fault, cause, transaction))


def _readable(translation: Translation, address: int) -> Translation:
    """What a device is told: execution is granted with reading alone."""
    rights = translation.rights
    if Access.READ not in rights:
        rights &= ~Access.EXECUTE
    return Translation(
        translation.iova,
        address,
        translation.page_size,
        rights,
        translation.ipa,
        translation.attrs1,
        translation.attrs2,
    )
