"""The hooks and their promises: the one page that a driver author must read.

A driver is an object registered under the entry-point group ``viommu``. It declares `HOOKSPEC_VERSION` as
``hookspec_version`` and implements the hooks below with ``@viommu.hookimpl``. A machine binds one driver
and calls hooks on it alone; wrapper plugins (``@viommu.hookimpl(wrapper=True)``) may be added around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pluggy
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from viommu._engine import Context, Translation
    from viommu.activity import Activity
    from viommu.faults import ConfigurationLog, Fault, Refusal, Report
    from viommu.iommufd.dispatch import AnyIoctl
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import (
        DeviceFacts,
        DeviceTlbRequest,
        DirtyBitmap,
        DomainFlags,
        HwInfo,
        NestedDomain,
        PageFault,
        PagingDomain,
        ReservedRegion,
        UserArray,
        UserData,
    )
    from viommu.platform import Completion, Interrupt, PageRequest, Platform, RequestKind, TlbBroadcast
    from viommu.stale import StaleUse
    from viommu.testing.guest_kit import GuestKit

__all__ = [
    "HOOKSPEC_VERSION",
    "Decoded",
    "DriverInfo",
    "GrantingHardware",
    "HardwareModel",
    "ListeningHardware",
    "LiveHardware",
    "RedirectingHardware",
    "Registers",
    "hookimpl",
    "viommu_alloc_nested",
    "viommu_alloc_nested_on",
    "viommu_alloc_paging",
    "viommu_attach",
    "viommu_conformance",
    "viommu_costs",
    "viommu_decode",
    "viommu_destroy",
    "viommu_detach",
    "viommu_device_facts",
    "viommu_driver_info",
    "viommu_free_domain",
    "viommu_hardware",
    "viommu_hw_info",
    "viommu_hw_queue_destroy",
    "viommu_hw_queue_init",
    "viommu_hw_queue_init_iova",
    "viommu_init",
    "viommu_interrupt",
    "viommu_invalidate",
    "viommu_invalidate_device_tlb",
    "viommu_invalidate_nested",
    "viommu_ioctls",
    "viommu_kinds",
    "viommu_layouts",
    "viommu_log_line",
    "viommu_observe",
    "viommu_page_response",
    "viommu_probe",
    "viommu_probe_device",
    "viommu_read_dirty",
    "viommu_release_device",
    "viommu_reserved_regions",
    "viommu_reset",
    "viommu_set_dirty_tracking",
    "viommu_set_stage2",
    "viommu_supports",
    "viommu_supports_hw_queue",
    "viommu_vdevice_destroy",
    "viommu_vdevice_init",
]

ENTRY_POINT_GROUP = "viommu"

HOOKSPEC_VERSION = 1
"""Raised when a promise here changes; a driver written for another number is refused by name."""

COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "viommu_probe": ("viommu_interrupt",),
    "viommu_probe_device": ("viommu_release_device",),
    "viommu_alloc_paging": ("viommu_device_facts", "viommu_attach", "viommu_detach", "viommu_free_domain"),
    "viommu_set_dirty_tracking": ("viommu_read_dirty",),
}
"""Which hooks a driver that gives one must give as well: nobody would be told that they were not called."""

hookspec = pluggy.HookspecMarker("viommu")
hookimpl = pluggy.HookimplMarker("viommu")
"""Marks a function as the implementation of the hook of its name; ``wrapper=True``: as one around it."""


@frozen
class DriverInfo:
    """What a driver says of itself (`viommu drivers`).

    ``requester_bits`` and ``pasid_bits`` bound what its hardware can be asked (``pasid_bits`` 0: no PASIDs).
    """

    name: str
    title: str
    requester_bits: int
    pasid_bits: int
    supports: tuple[str, ...] = ()
    specification: str = ""


@frozen
class Registers:
    """Register values by the specification's name, as a capture or a test gives them.

    A register that was not given reads as zero, as one that a device does not implement would.
    """

    values: Mapping[str, int] = field(factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)


class HardwareModel(Protocol):
    """The silicon of one IOMMU instance: it reads memory and registers, and nothing else."""

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (requester, PASID) by reading the structures in memory.

        Every structure that is read is told to ``log``. The answer is decoded anew at each call: caching is
        the engine's. Stores nothing. Never raises for what memory holds: that is a Refusal.
        """

    def report(self, fault: Fault) -> Report:
        """Say of a refused access what this hardware would record."""


@runtime_checkable
class LiveHardware(HardwareModel, Protocol):
    """Silicon that software can program: registers, queues in memory, events.

    What software wrote takes effect before `write` returns: queues are drained, responses given, interrupts raised
    through the platform. No register value, index or byte in memory may raise, hang or grow memory without bound.
    """

    def read(self, offset: int, size: int) -> int:
        """Read a register (size 4 or 8 bytes); what is no register reads as zero."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; what is none, or may not be written, keeps its value."""

    def record(self, fault: Fault) -> Report:
        """Write down a refused access as `report` tells it: the event queue, fault registers, overflow, interrupt."""

    def admit(
        self, requester: int, pasid: int | None, kind: RequestKind, log: ConfigurationLog
    ) -> Context | Refusal | None:
        """Say whether a device may send an ATS request of this kind.

        None: yes; a TRANSLATION_REQUEST is answered as an untranslated access would be, a TRANSLATED one passes with
        its address. A Context: it is translated by that one instead. A Refusal: no.
        """

    def complete(self, fault: Fault) -> Completion:
        """Say how a refused translation request ends for the device, having recorded what this hardware records."""

    def page_request(self, request: PageRequest) -> None:
        """Take one page request: queue it, or answer it at once as this hardware does when it cannot."""

    def cure(self, use: StaleUse) -> str:
        """Name, in the vendor's words, the narrowest invalidation that would have prevented a stale use."""


@runtime_checkable
class ListeningHardware(LiveHardware, Protocol):
    """Silicon that hears the CPUs' TLB broadcasts, where software lets it (Arm BTM)."""

    def broadcast(self, message: TlbBroadcast) -> None:
        """Drop what a CPU has told everybody to drop, if configured to listen; it is done when this returns."""


@runtime_checkable
class RedirectingHardware(LiveHardware, Protocol):
    """Silicon some of whose pages lead to no memory, and which does itself what an access to one sets off.

    Translations to such pages (`viommu.formats.FlatForm`) are not cached. Both methods are asked of every piece of a
    DMA that the engine has not moved, so they begin with a look at ``translation``, whose ``iova`` is the first byte's.
    """

    def load(self, requester: int, pasid: int | None, translation: Translation, length: int) -> bytes | None:
        """Read ``length`` bytes of a page; fewer: the access is aborted. None: the page is memory like any other."""

    def store(self, requester: int, pasid: int | None, translation: Translation, data: bytes) -> bool | None:
        """Take a write to a page; False: the access is aborted. None: the page is memory like any other."""


@runtime_checkable
class GrantingHardware(LiveHardware, Protocol):
    """Silicon that tells devices something else than where their accesses lead (RISC-V T2GPA)."""

    def granted(self, requester: int, pasid: int | None, translation: Translation) -> Translation | Completion:
        """Say what answers a translation request that was translated so; the device keeps its ``pa``."""


@frozen
class Decoded:
    """Bytes explained: what they are, field by field and in words.

    ``name`` is the specification's (``TLBI_NH_VA``, ``F_TRANSLATION``). ``meaning`` is one sentence. ``complaints``
    are reserved bits that are set and encodings that hardware refuses; ``causes``, for faults, what is likely wrong,
    likeliest first.

    Recordings and logs may use other names: ``aliases`` are those of the whole (``wait``, ``0x71``), ``field_aliases``
    those of fields, with the descriptor's own (``addr`` -> ``InputAddr``). Names that differ in case and punctuation
    alone need none.
    """

    kind: str
    name: str
    descriptor: Descriptor
    meaning: str
    complaints: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    field_aliases: Mapping[str, str] = field(factory=dict)


@hookspec(firstresult=True)
def viommu_driver_info() -> DriverInfo | None:
    """Say who the driver is.

    When:     at discovery and at binding; any number of times.
    Given:    nothing.
    Owes:     the same value each time, without side effects.
    Returns:  DriverInfo; its name is that of the entry point.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_layouts() -> Mapping[str, type[Descriptor]] | None:
    """Give the bit layouts of the driver's structures, by the specification's name.

    When:     when somebody decodes or explains bytes.
    Given:    nothing.
    Owes:     a mapping that does not change while the driver is bound.
    Returns:  name -> Descriptor class.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel | None:
    """Make the silicon of one IOMMU instance.

    When:     once for each IOMMU instance of a machine, before its first access.
    Given:    the machine's memory, register values as software left them, and what surrounds the model.
              ``platform.caches`` works once the hook has returned.
    Owes:     a model that keeps no state outside itself, and reaches nothing but ``memory`` and ``platform``.
    Returns:  a HardwareModel; a LiveHardware where software can program it.
    Raises:   BadRegister where the register values describe no hardware this driver models.
    """


@hookspec(firstresult=True)
def viommu_ioctls() -> Sequence[AnyIoctl] | None:
    """Add ioctls of the driver's own to /dev/iommu, as a test kernel does.

    When:     when a machine opens /dev/iommu.
    Given:    nothing.
    Owes:     rows; one with the number of a mainline's ioctl stands in its place.
    Returns:  the rows, or None.
    Raises:   nothing.
    """


@hookspec
def viommu_observe(event: str, facts: Mapping[str, object]) -> None:
    """See what happens on the control path: command batches, configuration changes, faults.

    When:     during the register write or access that set it off. Never for a translation.
    Given:    a dotted name and its facts (`viommu.platform.Platform.observe`).
    Owes:     not to change the facts, and to be quick. Plugins that a machine was given beside its driver may
              implement this hook without being wrappers.
    Returns:  nothing.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_costs(activity: Activity) -> Sequence[str] | None:
    """Say what a machine's invalidations would have cost on real hardware.

    When:     when somebody asks for a machine's summary.
    Given:    counts of all of the machine; ``guest_commands`` and ``requests`` are the two ways of a guest.
    Owes:     figures whose source each line, or the last one, names.
    Returns:  lines of text; None or none where nothing is known, or nothing happened.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_kinds() -> Mapping[str, tuple[int, ...]] | None:
    """Name what `viommu_decode` can explain.

    When:     when somebody decodes or explains bytes, and for shell completion.
    Given:    nothing.
    Owes:     a mapping that does not change while the driver is bound. ``command`` and ``event`` are the kinds of
              queue entries, if the hardware has queues; page-table entries and registers are kinds of their own.
    Returns:  kind -> the sizes in bytes that it may have.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_decode(kind: str, raw: bytes) -> Decoded | None:
    """Explain bytes of one kind.

    When:     when somebody decodes bytes, and when recordings are checked.
    Given:    a kind that `viommu_kinds` names, and bytes of one of its sizes, in memory order.
    Owes:     an explanation of any bytes; ``descriptor.encode()`` gives the same bytes again.
    Returns:  Decoded.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise a line that this hardware's kernel driver logs.

    When:     for each line that somebody pastes.
    Given:    the line, with or without time stamp.
    Owes:     nothing for the lines of other drivers.
    Returns:  (kind, bytes in memory order) for `viommu_decode`; None where the line is not this driver's. A line
              that belongs to an event which several lines tell is given together with those, joined by newlines.
    Raises:   nothing.
    """


@hookspec(firstresult=True)
def viommu_conformance() -> GuestKit | None:
    """Say what the conformance kit cannot know: how guests write this driver's tables, requests and commands.

    When:     when somebody asks the driver to conform (`viommu conform`, `viommu.testing.DriverContract`).
    Given:    nothing.
    Owes:     the same each time. A driver that lets guests nest gives it; its module is imported by nothing else.
    Returns:  a viommu.testing.GuestKit; None where there is nothing to say.
    Raises:   nothing.
    """


# --- The driver face: what a host kernel's IOMMU driver does for iommufd. A driver that has it gives
# `viommu_device_facts` and `viommu_alloc_paging` at least, and the `COMPANIONS` of what it gives, without which it is
# not loaded. Features whose hooks it does not give, its users are told EOPNOTSUPP.
# "The context" is the open file; its lock is held wherever a hook says nothing else. A hook refuses by raising a
# `viommu.kernel_errors.KernelError`; anything foreign that it raises is a DriverBug.

# bring-up


@hookspec(firstresult=True)
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring one IOMMU instance up, as the host's driver does at boot.

    When:     once for each instance, before its first device. A machine that is programmed by hand is never asked.
    Given:    ``iommu.port``: memory, frames of it, registers and doorbells: all that a driver has of its hardware.
              ``iommu.data`` is the driver's to set, ``iommu.policy`` what the machine wants. No lock is held.
    Owes:     hardware that translates: DMA of a device that no domain governs is refused, and what hardware records
              raises interrupts.
    Returns:  None.
    Raises:   NoMemory; NoDevice where the hardware is none that this driver can use.
    Kernel:   platform_driver.probe, iommu_device_register
    """


@hookspec(firstresult=True)
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Take note of a device.

    When:     it is added to the machine. No lock is held.
    Given:    a device with its ``requester`` and what it can itself (``features``); ``device.data`` is the driver's
              to set.
    Owes:     DMA of the device is refused until a domain governs it. All or nothing: if it raises,
              `viommu_release_device` is not called.
    Returns:  None.
    Raises:   NoDevice where it is not behind this IOMMU, NoMemory, Exists.
    Kernel:   iommu_ops.probe_device
    """


@hookspec(firstresult=True)
def viommu_release_device(device: PhysicalDevice) -> None:
    """Forget a device.

    When:     it is taken from the machine.
    Given:    a device that nobody owns and that is attached to nothing.
    Owes:     nothing is left of it in hardware.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommu_ops.release_device
    """


@hookspec(firstresult=True)
def viommu_interrupt(iommu: PhysicalIommu, interrupt: Interrupt) -> None:
    """Handle an interrupt of the hardware.

    When:     hardware raises it: in the thread of the register write or the DMA that set it off, possibly inside
              another hook of the driver that writes registers. Never before `viommu_probe` is called, and never while
              another interrupt of the same instance is handled: one that comes meanwhile is handled next. Not for
              those that hardware signals to a guest by itself (`viommu.platform.Interrupt.guest`).
    Given:    which of its sources raised it. The context's lock may be held or not.
    Owes:     what hardware recorded is read from memory, told (`viommu.objects.veventq.report_event`,
              `viommu.objects.fault.report_fault`), and given back to hardware. Waits for no other thread.
    Returns:  None.
    Raises:   nothing.
    Kernel:   request_threaded_irq
    """


# alloc


@hookspec(firstresult=True)
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts | None:
    """Say what a device and its IOMMU can do.

    When:     at bind, attach, HWPT_ALLOC and GET_HW_INFO.
    Given:    a device of this driver.
    Owes:     the same facts as long as the device exists.
    Returns:  DeviceFacts.
    Raises:   nothing.
    Kernel:   iommu_ops.capable, probe_device, dev->iommu->max_pasids
    """


@hookspec(firstresult=True)
def viommu_reserved_regions(device: PhysicalDevice) -> Sequence[ReservedRegion] | None:
    """Name the IOVAs that mappings must leave to the device.

    When:     when the device is attached to a paging HWPT.
    Given:    a device of this driver.
    Owes:     the same regions each time.
    Returns:  ReservedRegions; None stands for none.
    Raises:   nothing.
    Kernel:   iommu_ops.get_resv_regions
    """


@hookspec(firstresult=True)
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo | None:
    """Show the registers that a guest's driver needs to know.

    When:     once per GET_HW_INFO.
    Given:    ``data_type`` 0 for the driver's usual one, else the type that is asked for.
    Owes:     registers as the hardware has them, unfiltered.
    Returns:  HwInfo, its type not 0.
    Raises:   Unsupported for a type that this hardware does not have.
    Kernel:   iommu_ops.hw_info
    """


@hookspec(firstresult=True)
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> PagingDomain | None:
    """Make an empty page table that the device can be attached to.

    When:     HWPT_ALLOC on an IOAS, and attach to an IOAS with no HWPT that fits.
    Given:    flags that the core knows; driver data, or None.
    Owes:     a domain with no mapping, attached to nothing. With DIRTY_TRACKING in ``flags``, a domain whose
              ``dirty_tracking`` is true.
    Returns:  a PagingDomain.
    Raises:   Unsupported (flags, data type), Invalid, BadAddress (data), NoMemory.
    Kernel:   iommu_ops.domain_alloc_paging_flags
    """


@hookspec(firstresult=True)
def viommu_alloc_nested(
    device: PhysicalDevice, parent: PagingDomain, flags: DomainFlags, data: UserData
) -> NestedDomain | None:
    """Make a nested domain directly on a parent, with no vIOMMU.

    When:     HWPT_ALLOC on a paging HWPT. A driver without it has vIOMMUs only.
    Given:    a parent of the same driver that was made with NEST_PARENT; data, never None.
    Owes:     what user space gave, checked as far as the kernel's driver checks it.
    Returns:  a NestedDomain.
    Raises:   Unsupported, Invalid, BadAddress.
    Kernel:   iommu_ops.domain_alloc_nested
    """


@hookspec(firstresult=True)
def viommu_free_domain(domain: PagingDomain | NestedDomain) -> None:
    """Free a domain.

    When:     the HWPT is destroyed.
    Given:    a domain that nothing is attached to, and in which nothing is mapped.
    Owes:     no trace of it in hardware.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommu_domain_ops.free
    """


@hookspec(firstresult=True)
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool | None:
    """Say whether a vIOMMU of this type can be made for the device.

    When:     VIOMMU_ALLOC, before the parent is looked at.
    Given:    a type that is not 0.
    Owes:     no side effects.
    Returns:  True or False; None stands for False.
    Raises:   nothing.
    Kernel:   iommu_ops.get_viommu_size
    """


@hookspec(firstresult=True)
def viommu_init(viommu: Viommu, parent: PagingDomain | None, data: UserData | None) -> None:
    """Make a vIOMMU: a slice of the hardware, standing on its parent.

    When:     VIOMMU_ALLOC.
    Given:    an object that has its type, device's IOMMU and parent; ``viommu.data`` is the driver's to set. ``parent``
              is None only for a driver that has `viommu_set_stage2`. The policy ``vmid_owner`` says whose the tag of
              stage 2 is; where that is KVM, ``viommu.vm`` may name the virtual machine whose VMID is to be used.
    Owes:     all or nothing: if it raises, `viommu_destroy` is not called.
    Returns:  None.
    Raises:   Invalid, BadAddress, Unsupported, NoSpace.
    Kernel:   iommu_ops.viommu_init
    """


@hookspec(firstresult=True)
def viommu_set_stage2(viommu: Viommu, parent: PagingDomain) -> None:
    """Let an empty vIOMMU stand on a parent.

    When:     VIOMMU_SET_STAGE2, under the policy ``late_stage2``. A driver that has this hook must take ``parent`` None
              in `viommu_init`; in the window between the two it is asked for vDEVICEs at most.
    Given:    a vIOMMU that stands on nothing; a nesting parent.
    Owes:     the vIOMMU is as if it had been made on the parent. All or nothing.
    Returns:  None.
    Raises:   Invalid where the parent does not fit, NoMemory, NoSpace.
    Kernel:   none; mainline gives the parent at alloc
    """


@hookspec(firstresult=True)
def viommu_destroy(viommu: Viommu) -> None:
    """Take a vIOMMU down.

    When:     it is destroyed, before its parent is let go.
    Given:    a vIOMMU that nobody uses.
    Owes:     what `viommu_init` took is free again, mmap regions included.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommufd_viommu_ops.destroy
    """


@hookspec(firstresult=True)
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain | None:
    """Make a nested domain on a vIOMMU.

    When:     HWPT_ALLOC on a vIOMMU.
    Given:    a live vIOMMU; data, never None.
    Owes:     what user space gave, checked as far as the kernel's driver checks it.
    Returns:  a NestedDomain.
    Raises:   Unsupported, Invalid, BadAddress, IoError.
    Kernel:   iommufd_viommu_ops.alloc_domain_nested
    """


@hookspec(firstresult=True)
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Let a device be known by its virtual id.

    When:     VDEVICE_ALLOC.
    Given:    a vDEVICE with its vIOMMU, device and ``virt_id``; the vIOMMU does not find it by that id yet.
    Owes:     all or nothing: if it raises, `viommu_vdevice_destroy` is not called.
    Returns:  None.
    Raises:   Unsupported, Invalid, NoSpace.
    Kernel:   iommufd_viommu_ops.vdevice_init
    """


@hookspec(firstresult=True)
def viommu_vdevice_destroy(vdevice: Vdevice) -> None:
    """Forget a virtual id.

    When:     the vDEVICE is destroyed, or its device is unbound.
    Given:    a vDEVICE that `viommu_vdevice_init` has made; its device may still be attached.
    Owes:     the id matches no invalidation any more.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommufd_vdevice.destroy
    """


# attach


@hookspec(firstresult=True)
def viommu_attach(
    device: PhysicalDevice,
    pasid: int,
    domain: PagingDomain | NestedDomain,
    old: PagingDomain | NestedDomain | None,
    page_requests: bool,
) -> None:
    """Let a domain govern a device's DMA.

    When:     attach, and replace (``old`` is what governs now).
    Given:    ``pasid`` 0 for DMA without PASID. ``page_requests``: the HWPT has a FAULT, so that the device has to be
              one that can ask for pages.
    Owes:     no moment in which DMA reaches anything but ``old``'s or ``domain``'s memory. If it raises, ``old``
              still governs, or the device is blocked.
    Returns:  None.
    Raises:   Invalid where the domain does not fit the device (an IOAS then tries its next HWPT), NotThere where a
              vDEVICE is missing, NoDevice where page requests are wanted of a device that makes none, NoMemory, Busy.
    Kernel:   iommu_domain_ops.attach_dev, set_dev_pasid
    """


@hookspec(firstresult=True)
def viommu_detach(device: PhysicalDevice, pasid: int, old: PagingDomain | NestedDomain) -> None:
    """Block a device's DMA, or that of one PASID.

    When:     detach, and unbind.
    Given:    what `viommu_attach` attached last.
    Owes:     nothing reaches memory any more.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommu_ops.blocked_domain
    """


@hookspec(firstresult=True)
def viommu_reset(device: PhysicalDevice) -> None:
    """Take note that a device was reset.

    When:     a function-level reset.
    Given:    a device in any state.
    Owes:     its device TLB counts as empty; attachments stay.
    Returns:  None.
    Raises:   nothing.
    Kernel:   pci_dev_reset_iommu_prepare
    """


# vqueue


@hookspec(firstresult=True)
def viommu_supports_hw_queue(viommu: Viommu, queue_type: int) -> bool | None:
    """Say whether the vIOMMU can have hardware queues of this type.

    When:     HW_QUEUE_ALLOC.
    Given:    a type that is not 0.
    Owes:     no side effects.
    Returns:  True or False; None stands for False.
    Raises:   nothing.
    Kernel:   iommufd_viommu_ops.get_hw_queue_size
    """


@hookspec(firstresult=True)
def viommu_hw_queue_init(queue: HwQueue, index: int, base_pa: int) -> None:
    """Give the guest a hardware queue.

    When:     HW_QUEUE_ALLOC, once its memory is pinned and known to be contiguous.
    Given:    a queue with its vIOMMU, type, length and IOVA; ``index`` is as user space gave it.
    Owes:     all or nothing: if it raises, `viommu_hw_queue_destroy` is not called.
    Returns:  None.
    Raises:   Invalid (index, length, alignment), Exists (index taken), IoError (an earlier queue is missing).
    Kernel:   iommufd_viommu_ops.hw_queue_init_phys
    """


@hookspec(firstresult=True)
def viommu_hw_queue_init_iova(queue: HwQueue, index: int) -> None:
    """Give the guest a hardware queue in memory that hardware finds by IOVA.

    When:     HW_QUEUE_ALLOC with the flag IOVA, under the policy ``iova_queues``.
    Given:    as `viommu_hw_queue_init`, but nothing is pinned, contiguous or known to be mapped.
    Owes:     as `viommu_hw_queue_init`. What hardware finds unmapped later it reports as it does for any access.
    Returns:  None.
    Raises:   as `viommu_hw_queue_init`.
    Kernel:   none; the uAPI leaves room for it beside hw_queue_init_phys
    """


@hookspec(firstresult=True)
def viommu_hw_queue_destroy(queue: HwQueue) -> None:
    """Take a hardware queue away.

    When:     the HW_QUEUE is destroyed, before its memory is unpinned.
    Given:    a queue that no other depends on.
    Owes:     hardware reads its memory no more.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommufd_hw_queue.destroy
    """


# invalidate


@hookspec(firstresult=True)
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool | None:
    """Forget the translations that the guest has asked to drop.

    When:     once per HWPT_INVALIDATE of a vIOMMU, with the whole batch.
    Given:    a live vIOMMU, never an empty one; ``requests`` are the guest's own bytes.
    Owes:     requests run in order, and ``requests.done`` says how many did, also where it raises. Device TLBs are
              entries of their own.
    Returns:  True.
    Raises:   Invalid, Unsupported, BadAddress, TooBig, IoError.
    Kernel:   iommufd_viommu_ops.cache_invalidate
    """


@hookspec(firstresult=True)
def viommu_invalidate_nested(domain: NestedDomain, requests: UserArray) -> bool | None:
    """Forget translations of one nested domain.

    When:     once per HWPT_INVALIDATE of a nested HWPT.
    Given:    a live domain; ``requests`` are the guest's own bytes.
    Owes:     as `viommu_invalidate`.
    Returns:  True.
    Raises:   as `viommu_invalidate`.
    Kernel:   iommu_domain_ops.cache_invalidate_user
    """


@hookspec(firstresult=True)
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int | None:
    """Drop translations that devices keep themselves (ATS).

    When:     once per DEVICE_TLB_INVALIDATE, under the policy ``device_tlb_invalidation``, with the whole batch.
    Given:    a live vIOMMU; devices that have a vDEVICE on it.
    Owes:     requests run in order; those before one that fails have reached their devices. What the IOMMU caches
              itself is left alone.
    Returns:  how many were executed; fewer than all where a device did not answer.
    Raises:   Unsupported.
    Kernel:   none; mainline has ATC_INV in the array of HWPT_INVALIDATE (SMMUv3), and implies it (VT-d)
    """


# fault


@hookspec(firstresult=True)
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """Answer a page request group of a device.

    When:     user space writes a response to a FAULT, or the core answers for it. No lock is held.
    Given:    the last request of the group.
    Owes:     the response reaches the device.
    Returns:  None.
    Raises:   nothing.
    Kernel:   iommu_ops.page_response
    """


# dirty


@hookspec(firstresult=True)
def viommu_set_dirty_tracking(domain: PagingDomain, enable: bool) -> bool | None:
    """Switch dirty tracking.

    When:     HWPT_SET_DIRTY_TRACKING. The core clears all marks before it enables.
    Given:    a domain whose ``dirty_tracking`` is true.
    Owes:     writes by DMA are noted from now on, or no more; marks stay when it is switched off.
    Returns:  True.
    Raises:   NoMemory.
    Kernel:   iommu_dirty_ops.set_dirty_tracking
    """


@hookspec(firstresult=True)
def viommu_read_dirty(
    domain: PagingDomain, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None
) -> bool | None:
    """Report what DMA wrote to.

    When:     HWPT_GET_DIRTY_BITMAP, once for each mapping in its range; and when tracking is enabled (no bitmap).
    Given:    a range in which everything is mapped.
    Owes:     ``bitmap.mark`` for each entry of the page table that is marked dirty, whole entries; the marks are
              gone afterwards where ``clear``.
    Returns:  True.
    Raises:   Invalid where tracking is off and there is a bitmap.
    Kernel:   iommu_dirty_ops.read_and_clear_dirty
    """
