"""One guest's IOMMU, as hardware runs it: its registers, its buffers in guest memory, its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field

from viommu.addresses import RequesterId
from viommu.commands import Executor
from viommu.hookspecs import Registers
from viommu.registers import RegisterFile
from viommu_amd_viommu.hardware import control
from viommu_amd_viommu.hardware.command_buffer import CommandBuffer
from viommu_amd_viommu.hardware.guests import meanings
from viommu_amd_viommu.hardware.guests.commands import GuestCommands
from viommu_amd_viommu.hardware.guests.events import GuestEvents
from viommu_amd_viommu.hardware.guests.platform import GuestPlatform
from viommu_amd_viommu.hardware.interrupts import Interrupts
from viommu_amd_viommu.hardware.logs import EVENT_LOG, PPR_LOG, RecordLog
from viommu_amd_viommu.hardware.page_requests import PageRequests
from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec import inferred
from viommu_amd_viommu.spec.events import IoPageFault
from viommu_amd_viommu.spec.guest_registers import (
    GUEST_PAGE_OFFSET,
    GuestCommandControl,
    GuestEventControl,
    GuestPprControl,
)
from viommu_amd_viommu.spec.interrupt_registers import MsiCapabilityHeader
from viommu_amd_viommu.spec.registers import EFR, EFR2, BufferBase, Control, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.platform import PageRequest, Platform
    from viommu_amd_viommu.hardware.events import Events
    from viommu_amd_viommu.hardware.guests.addresses import TranslatedMemory
    from viommu_amd_viommu.hardware.guests.maps import IdMaps
    from viommu_amd_viommu.spec.device_table import DTE
    from viommu_amd_viommu.spec.events import AnyEvent

PAGE_LG2 = 12
_NO_MORE_FEATURES = EFR2()


@define(eq=False, repr=False)
class Guest:
    """The components are those of the host's IOMMU, on registers of the guest's and on memory as the guest sees it."""

    maps: IdMaps
    memory: TranslatedMemory
    file: RegisterFile
    platform: GuestPlatform
    events: GuestEvents
    buffer: CommandBuffer
    page_requests: PageRequests
    controls: dict[int, int] = field(factory=dict)
    """VF control registers as they were written last, by offset."""
    translating: int = 0
    """The DeviceID whose entry leads from the guest's addresses to memory; 0: none."""

    @classmethod
    def of(
        cls,
        maps: IdMaps,
        memory: TranslatedMemory,
        features: EFR,
        host: Platform,
        host_events: Events,
        may_run: Callable[[], bool],
    ) -> Guest:
        """Make one whose registers are as after a reset. It hosts no guests itself, so it lacks that feature."""
        file = RegisterFile.of(REGISTERS, Registers({"EFR": int(features.replace(vIOMMU=0))}))
        file["MSICAP"] = int(MsiCapabilityHeader(MsiEn=1))  # signals are passed on whatever the guest's vectors are
        file["CONTROL"] = int(Control(IommuEn=1, GTEn=1))
        platform = GuestPlatform(host, maps, host.memory, host.caches)
        events = GuestEvents(file, platform, Interrupts(file, platform), host_events, maps.guest)
        events.log = RecordLog(EVENT_LOG, file, memory)
        commands = GuestCommands(file, memory, host, events, host_events, maps)
        buffer = CommandBuffer(
            file,
            host.memory,
            memory,
            Executor(host, meanings.of(maps)),
            commands,
            events,
            lambda kinds, head: platform.observe("amd.guest_commands", {"kinds": kinds, "head": head}),
            may_run,
        )
        requests = PageRequests(file, platform, events)
        requests.log = RecordLog(PPR_LOG, file, memory)
        return cls(maps, memory, file, platform, events, buffer, requests)

    # --- registers

    def read(self, offset: int, size: int) -> int:
        """Read from the VF page."""
        return self.file.read(GUEST_PAGE_OFFSET + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write to the VF page, as the guest does with nobody between."""
        for store in self.file.write(GUEST_PAGE_OFFSET + offset, size, value):
            if store.name == "CMDTAIL":
                self.buffer.run()
        self.events.interrupts.update()

    def set_commands(self, value: GuestCommandControl) -> None:
        """Take the command buffer's base, length and switches."""
        self.file["CMDBASE"] = int(BufferBase(Base=value.Base, Length=value.Length))
        self._switch(CmdBufEn=value.CmdBufEn, ComWaitIntEn=value.ComWaitIntEn)

    def set_events(self, value: GuestEventControl) -> None:
        """Take the event log's."""
        self.file["EVTBASE"] = int(BufferBase(Base=value.Base, Length=value.Length))
        self._switch(EventLogEn=value.EvtLogEn, EventIntEn=value.EvtIntEn, DualEventLogEn=value.DualEvtEn)

    def set_page_requests(self, value: GuestPprControl) -> None:
        """Take the PPR log's."""
        self.file["PPRBASE"] = int(BufferBase(Base=value.BasePage << PAGE_LG2, Length=value.Length))
        self._switch(
            PPRLogEn=value.PPRLogEn,
            PPRIntEn=value.PPRIntEn,
            PPREn=value.PPREn,
            DualPPRLogEn=value.DualPPREn,
            PPRAutoRspEn=value.AutoRspEn,
            BlkStopMrkEn=value.BlkStopMrk,
            PPRAutoRspAon=value.AutoRspAon,
        )

    def reset_page(self) -> None:
        """Clear the VF page (RESET_VMMIO); what the host set by VF control MMIO stays."""
        for name in self.file.declared:
            if GUEST_PAGE_OFFSET <= self.file.declared[name].offset < GUEST_PAGE_OFFSET + 0x1000:
                self.file[name] = 0
        self.file["STATUS"] = control.running(self.file["CONTROL"])
        self.buffer.restarted()

    def run(self) -> None:
        """Execute what waits, now that something has changed."""
        self.buffer.run()

    # --- events and page requests of its devices

    def wants(self, event: AnyEvent) -> bool:
        """Say whether an event of one of its devices is for its log."""
        if not self.events.runs and inferred.EVENTS_OF_PARKED_GUESTS_GO_TO_THE_HOST:
            return False
        return event.EventCode in inferred.EVENTS_OF_GUESTS

    def tell(self, event: AnyEvent, device: int) -> None:
        """Log an event of a device, which the guest knows by ``device``."""
        told = event.replace(DeviceID=device)
        if isinstance(told, IoPageFault) and not told.GN:
            told = told.replace(DomainIDOrPASID=self.maps.guest_domain(told.DomainIDOrPASID))
        self.events.tell(told)

    @property
    def takes_requests(self) -> bool:
        """Whether page requests of its devices go to its own log."""
        return not inferred.REQUESTS_OF_PARKED_GUESTS_GO_TO_THE_HOST or bool(self.file["STATUS"] & Status.PPRRun.mask)

    def take_request(self, request: PageRequest, entry: DTE) -> None:
        """Take a page request of one of its devices."""
        self.page_requests.take(evolve(request, requester=RequesterId(entry.GuestDeviceID)), entry)

    def _switch(self, **bits: int) -> None:
        before = self.file["CONTROL"]
        written = int(Control.decode(before).replace(**bits))
        after = control.sticking(written, self.file.decoded("EFR", EFR), _NO_MORE_FEATURES)
        self.file["CONTROL"] = after
        starts, stops = control.started(before, after), control.stopped(before, after)
        self.file.change("STATUS", sets=starts, clears=stops)
        if (starts | stops) & Status.CmdBufRun.mask:
            self.buffer.restarted()
        self.events.interrupts.update()
        self.buffer.run()
