"""The live SMMU: what software programs through registers, and what devices send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.hookspecs import Registers
from viommu.platform import RequestKind
from viommu.registers import RegisterFile
from viommu_smmuv3_cmdqv.features import read_cmdqv, read_features
from viommu_smmuv3_cmdqv.hardware import ats, broadcast, cures
from viommu_smmuv3_cmdqv.hardware.cmdqv import Cmdqv
from viommu_smmuv3_cmdqv.hardware.command_queue import CommandQueue
from viommu_smmuv3_cmdqv.hardware.command_unit import CommandUnit
from viommu_smmuv3_cmdqv.hardware.event_queue import EventQueue
from viommu_smmuv3_cmdqv.hardware.reactions import REACTIONS
from viommu_smmuv3_cmdqv.hardware.register_rules import DECLARED, kept_bits
from viommu_smmuv3_cmdqv.hardware.report import report
from viommu_smmuv3_cmdqv.hardware.request_queue import RequestQueue
from viommu_smmuv3_cmdqv.hardware.signals import Signals
from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
from viommu_smmuv3_cmdqv.hardware.stalls import Stalls
from viommu_smmuv3_cmdqv.identity import identified
from viommu_smmuv3_cmdqv.recording import Recording
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_PARAM, PLACE

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.formats import Context
    from viommu.memory import PhysicalMemory
    from viommu.platform import Completion, PageRequest, Platform, TlbBroadcast
    from viommu.stale import StaleUse


@define(eq=False)
class Smmuv3:
    """One SMMUv3, Non-secure state: a `viommu.hookspecs.ListeningHardware`."""

    chip: Silicon
    signals: Signals = field(init=False)
    stalls: Stalls = field(init=False)
    events: EventQueue = field(init=False)
    requests: RequestQueue = field(init=False)
    commands: CommandQueue = field(init=False)
    cmdqv: Cmdqv | None = None
    """More command queues, where the registers say that there are any."""

    def __attrs_post_init__(self) -> None:
        self.signals, self.stalls = Signals(self.chip), Stalls(self.chip)
        self.events = EventQueue(self.chip, self.signals, self.stalls)
        self.requests = RequestQueue(self.chip, self.signals)
        self.commands = CommandQueue(self.chip, self.signals, CommandUnit(self.chip, self.signals, self.stalls))

    @classmethod
    def made(cls, memory: PhysicalMemory, registers: Registers, platform: Platform) -> Smmuv3:
        """Make one whose registers are as given. Nothing happens yet. Raises BadRegister."""
        initial = identified(registers)
        read_features(initial)
        own = Registers({name: value for name, value in initial.values.items() if name != CMDQV_PARAM.__name__})
        made = cls(Silicon(memory, platform, RegisterFile.of(DECLARED, own)))
        param = read_cmdqv(initial)
        if param.VER:
            made.cmdqv = Cmdqv.of(
                made.chip, param, made.commands.unit, lambda: CommandUnit(made.chip, made.signals, made.stalls)
            )
        return made

    # Translation.

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (StreamID, SubstreamID)."""
        return self.chip.configuration.configure(requester, pasid, log)

    def report(self, fault: Fault) -> Report:
        """Say what the SMMU would record, with the tag that the access would get if it stalls."""
        return report(fault, self.stalls.next_tag())

    def record(self, fault: Fault) -> Report:
        """Record it; an access that stalls waits from now on."""
        with self.events.lock:  # the tag that a report names must be nobody else's
            told = self.report(fault)
            stalls = told.stall_tag is not None and told.record is not None
            if told.stall_tag is not None and told.record is not None:
                self.stalls.hold(fault.requester, told.stall_tag)
                self.events.leave(told.stall_tag, told.record)
        if stalls:
            self.events.flush()
        elif told.record is not None:
            self.events.append(told.record, may_merge=bool(Recording.decode(fault.driver_bits).MEV))
        facts = {"stream": fault.requester, "reason": told.reason, "outcome": told.outcome}
        self.chip.platform.observe("smmuv3.fault", facts)
        return told

    # Devices with a TLB.

    def admit(
        self, requester: int, _pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Say whether a device may send an ATS request of this kind."""
        if kind is RequestKind.TRANSLATION_REQUEST:
            return ats.admit_request(self.chip.configuration, requester, log)
        if kind is RequestKind.TRANSLATED:
            return ats.admit_translated(self.chip.configuration, requester, log)
        return None

    def complete(self, fault: Fault) -> Completion:
        """Say how a refused translation request ends; it never stalls, and few leave a record."""
        if ats.is_recorded(fault, self.chip.features):
            told = report(fault, None)
            if told.record is not None:
                self.events.append(told.record)
        return ats.completion_of(fault)

    def cure(self, use: StaleUse) -> str:
        """Name the commands that would have prevented a stale use."""
        return cures.cure(use)

    def broadcast(self, message: TlbBroadcast) -> None:
        """Hear a CPU's TLB invalidation."""
        broadcast.hear(self.chip, message)

    def page_request(self, request: PageRequest) -> None:
        """Queue a page request, or answer it."""
        self.requests.append(request)

    # Registers.

    def read(self, offset: int, size: int) -> int:
        """Read a register; what is none reads as zero, the Secure bank too."""
        if self.cmdqv is not None and offset >= PLACE:
            return self.cmdqv.read(offset - PLACE, size)
        return self.chip.registers.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. All of a wide store is in place before any of it has an effect."""
        if self.cmdqv is not None and offset >= PLACE:
            self.cmdqv.write(offset - PLACE, size, value)
            return
        chip = self.chip
        for store in chip.registers.write(
            offset, size, value, lambda store: kept_bits(store, chip.registers, chip.features)
        ):
            react = REACTIONS.get(store.name)
            if react is not None:
                react(self, store)
