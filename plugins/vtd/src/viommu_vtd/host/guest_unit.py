"""What a vIOMMU is on VT-d: a guest's unit, of which the host executes invalidations. Mainline has none of it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from viommu_vtd.host.guest_commands import GuestAbilities, NoSuchDevice, decode, rewrite, wait_error
from viommu_vtd.host.queue import Trouble
from viommu_vtd.spec.commands import DeviceTlbInvalidate, InvalidationWait, PasidDeviceTlbInvalidate
from viommu_vtd.spec.queue_registers import QueueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from viommu.layout import Descriptor
    from viommu.objects.viommu import Viommu
    from viommu_vtd.host.nested import NestedDomain
    from viommu_vtd.host.paging import SecondStageDomain
    from viommu_vtd.host.soft_queue import QueuePage
    from viommu_vtd.host.unit import Unit

STATUS_BYTES = 4
MOST_PENDING = 4096
"""Descriptors that are gathered before they are submitted: a guest has as many domains as it likes."""
TO_DEVICES = (DeviceTlbInvalidate, PasidDeviceTlbInvalidate)


@frozen
class Outcome:
    """How far a run of a guest's descriptors came.

    ``done``: how many hardware is past. ``culprit``: the one that is to blame for ``trouble``; ``detail``: the
    `QueueError`, or the virtual source-id of the device that did not answer. ``interrupt``: a wait descriptor with IF
    is done.
    """

    done: int
    trouble: Trouble | None = None
    culprit: int = 0
    detail: int = 0
    interrupt: bool = False


@define(eq=False)
class GuestUnit:
    """A vIOMMU's half in the driver. ``nested``: the guest's tables that were made on it.

    ``parent`` None: it stands on nothing yet, and there is no guest memory.
    """

    viommu: Viommu
    unit: Unit
    parent: SecondStageDomain | None
    nested: list[NestedDomain] = field(factory=list)
    page: QueuePage | None = None
    """Its queue's registers."""

    @property
    def able(self) -> GuestAbilities:
        """What its descriptors may ask: what the host's unit can."""
        cap, ecap = self.unit.registers.cap, self.unit.registers.ecap
        return GuestAbilities(
            psi=bool(cap.PSI), most_pages_lg2=cap.MAMV, device_tlbs=bool(ecap.DT), drain=bool(ecap.PDS)
        )

    def domains(self, guest_domain: int | None) -> Iterable[int]:
        """Give the host's DIDs of nested domains; one that was made without a guest's DID answers to each."""
        return [
            domain.id_in(self.unit)
            for domain in self.nested
            if self.unit in domain.units and (guest_domain is None or domain.guest_domain in (None, guest_domain))
        ]

    def source(self, virtual: int) -> int | None:
        """Give a vDEVICE's source-id."""
        device = self.viommu.find_device(virtual)
        return None if device is None else device.requester

    def run(self, raw: Sequence[bytes]) -> Outcome:
        """Execute descriptors (32 bytes each) in order, up to the first that hardware would not get past."""
        return Run(self, self.able).all(raw)

    def complete(self, wait: InvalidationWait) -> None:
        """Store what a wait descriptor says, at a guest's address; where the guest has no memory it is lost."""
        if wait.SW and self.parent is not None:
            pa = self.parent.physical(wait.STADDR)
            if pa is not None:
                self.unit.memory.write(pa, wait.STDATA.to_bytes(STATUS_BYTES, "little"))


@define(eq=False)
class Run:
    """One run. What comes before a wait descriptor is submitted at once."""

    guest: GuestUnit
    able: GuestAbilities
    _pending: dict[Descriptor, int] = field(factory=dict)
    """What is still to be submitted, with the guest's descriptor that each stands for. Twice the same is once."""
    _silent: tuple[int, int, Trouble] | None = None
    """(the descriptor, the virtual source-id) of a device that did not answer, and whether it sent a wrong answer."""
    _interrupt: bool = False

    def all(self, raw: Sequence[bytes]) -> Outcome:
        """Execute all."""
        for index, entry in enumerate(raw):
            stopped = self._one(index, decode(entry))
            if stopped is not None:
                return stopped
        return self._flush(len(raw)) or Outcome(len(raw), interrupt=self._interrupt)

    def _one(self, index: int, descriptor: Descriptor | QueueError) -> Outcome | None:
        if isinstance(descriptor, QueueError):
            return self._refused(index, descriptor)
        if isinstance(descriptor, InvalidationWait):
            return self._wait(index, descriptor)
        found = rewrite(descriptor, self.guest, self.able)  # type: ignore[arg-type]
        if isinstance(found, QueueError):
            return self._refused(index, found)
        if isinstance(found, NoSuchDevice):
            self._silent = self._silent or (index, found.source, Trouble.TIMED_OUT)
            return None
        for one in found:
            self._pending.setdefault(one, index)
        return self._submit() if len(self._pending) > MOST_PENDING else None

    def _wait(self, index: int, wait: InvalidationWait) -> Outcome | None:
        """What is before it is done, or it is aborted, and the queue is past it."""
        error = wait_error(wait, self.able)
        if error is not None:
            return self._refused(index, error)
        stopped = self._flush(index + 1, drain=bool(wait.PD))
        if stopped is None:
            self.guest.complete(wait)
            self._interrupt = self._interrupt or bool(wait.IF)
        return stopped

    def _refused(self, index: int, error: QueueError) -> Outcome:
        stopped = self._flush(index)
        return stopped or Outcome(index, Trouble.REFUSED, index, error, self._interrupt)

    def _flush(self, done: int, *, drain: bool = False) -> Outcome | None:
        """Submit what is pending; a device that did not answer, now or before, stops the run here."""
        refused = self._submit(drain=drain)
        if refused is not None or self._silent is None:
            return refused
        culprit, source, trouble = self._silent
        return Outcome(done, trouble, culprit, source, self._interrupt)

    def _submit(self, *, drain: bool = False) -> Outcome | None:
        """Submit what is pending. What the host's unit refuses stops the run, silent devices are remembered."""
        pending, self._pending = self._pending, {}
        descriptors, owners = list(pending), list(pending.values())
        fault = self.guest.unit.queue.submit(descriptors, drain=drain) if descriptors or drain else None
        if fault is not None and fault.source is not None and self._silent is None:
            self._silent = (*self._to_blame(descriptors, owners, fault.source), fault.trouble)
        elif fault is not None and fault.index is not None:
            index = owners[fault.index]
            return Outcome(index, Trouble.REFUSED, index, fault.error, self._interrupt)
        return None

    def _to_blame(self, pending: Sequence[Descriptor], owners: Sequence[int], source: int) -> tuple[int, int]:
        asked = (
            own for one, own in zip(pending, owners, strict=True) if isinstance(one, TO_DEVICES) and source == one.SID
        )
        return next(asked, owners[0]), self._virtual(source)

    def _virtual(self, source: int) -> int:
        found = self.guest.unit.devices.get(source)
        virtual = None if found is None else self.guest.viommu.virt_id_of(found.physical)
        return virtual or 0
