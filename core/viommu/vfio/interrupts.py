"""Interrupts of a function: eventfds that user space gives, by kind and vector."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import BadFile, Invalid, NotAnIoctl
from viommu.vfio.uapi import ACTIONS, DATA_KINDS, IRQS, Irq, IrqFlags, IrqSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.vfio.uapi import SetIrqs

NOBODY = -1
"""An eventfd's number: take this vector's away."""
DEVICE_KINDS = (Irq.INTX, Irq.MSI, Irq.MSIX)
"""Of these a function uses one at a time; the others are the host's own words to user space."""
WIRE_ACTIONS = frozenset({IrqSet.ACTION_MASK, IrqSet.ACTION_UNMASK, IrqSet.ACTION_TRIGGER})
SIZES = {IrqSet.DATA_NONE: 0, IrqSet.DATA_BOOL: 1, IrqSet.DATA_EVENTFD: 4}
"""Bytes of data for each vector."""
EVENTFD = "anon_inode:[eventfd]"
"""What the kernel calls one."""


@define(eq=False)
class Interrupts:
    """One function's. ``counts``: how many vectors it has of each kind. Nothing here waits for who reads an eventfd.

    ``told`` hears of each that an eventfd is signalled for: its kind, and which vector.
    """

    counts: dict[Irq, int]
    told: Callable[[Irq, int], None] | None = None
    _active: Irq | None = None
    """The kind that user space has set up."""
    _eventfds: dict[Irq, dict[int, int]] = field(factory=lambda: {irq: {} for irq in Irq})
    _masked: bool = False
    _is_wire_disabled: bool = False
    """By the command register."""
    _pending: bool = False
    _lock: RLock = field(factory=RLock, repr=False)

    def raise_(self, vector: int) -> None:
        """Raise one, as software has set the function up. A wire that was raised masks itself until it is unmasked."""
        with self._lock:
            if self._active is not Irq.INTX:
                if self._active is not None:
                    self._signal(self._active, vector)
            elif self._masked or self._is_wire_disabled:
                self._pending = True
            else:
                self._masked = True
                self._signal(Irq.INTX, 0)

    def disable_wire(self, disabled: bool) -> None:
        """Follow the command register's INTx disable."""
        with self._lock:
            self._is_wire_disabled = disabled
            self._raise_pending()

    def info(self, index: int) -> tuple[int, int]:
        """Give (flags, count) of a kind. Raises Invalid."""
        if index >= IRQS:
            raise Invalid("vfio_irq_info", "index", index, f"below {IRQS}")
        irq = Irq(index)
        flags = IrqFlags.EVENTFD | (IrqFlags.MASKABLE | IrqFlags.AUTOMASKED if irq is Irq.INTX else IrqFlags.NORESIZE)
        return int(flags), self.counts.get(irq, 0)

    def set(self, asked: SetIrqs, data: Callable[[int], bytes], take: Callable[[int], int | None]) -> None:
        """Do what SET_IRQS asks; ``data(size)`` gives what follows it, ``take(fd)`` a descriptor of our own.

        Raises Invalid, NotAnIoctl (what this kind cannot do), BadFile, and whatever ``data`` raises.
        """
        irq, kind = self._checked(asked)
        length = SIZES[kind] * asked.count
        raw = data(length) if length else b""
        action = asked.flags & ACTIONS
        if action not in (WIRE_ACTIONS if irq is Irq.INTX else {IrqSet.ACTION_TRIGGER}):
            raise NotAnIoctl("vfio_irq_set", "flags", asked.flags, f"an action that {irq.name} has")
        if action != IrqSet.ACTION_TRIGGER:
            with self._lock:
                self._change_mask(asked, kind, raw, masks=action == IrqSet.ACTION_MASK)
        elif kind == IrqSet.DATA_EVENTFD:
            self._give(irq, asked, raw, take)
        else:
            with self._lock:
                self._trigger(irq, asked, raw if kind == IrqSet.DATA_BOOL else b"\1" * asked.count, kind)

    def close(self) -> None:
        """Forget all eventfds."""
        with self._lock:
            for irq in Irq:
                self._drop(irq)

    # --- what is asked

    def _checked(self, asked: SetIrqs) -> tuple[Irq, IrqSet]:
        bits = asked.flags & DATA_KINDS
        if asked.flags & ~(DATA_KINDS | ACTIONS) or bits not in SIZES:
            raise Invalid("vfio_irq_set", "flags", asked.flags, "one kind of data and one action")
        if asked.index >= IRQS:
            raise Invalid("vfio_irq_set", "index", asked.index, f"below {IRQS}")
        irq = Irq(asked.index)
        have = self.counts.get(irq, 0)
        if asked.start >= have or asked.start + asked.count > have:
            raise Invalid("vfio_irq_set", "start + count", asked.start + asked.count, f"at most {have}")
        return irq, IrqSet(bits)

    def _check_free(self, irq: Irq, asked: SetIrqs) -> None:
        """Refuse to set a kind up beside another. Raises Invalid."""
        if irq in DEVICE_KINDS and self._active is not None and self._active is not irq:
            raise Invalid("vfio_irq_set", "index", asked.index, f"{self._active.value}, until that is taken away")
        if irq not in {Irq.MSI, Irq.MSIX} and asked.count != 1:
            raise Invalid("vfio_irq_set", "count", asked.count, f"1 for {irq.name}")

    def _change_mask(self, asked: SetIrqs, kind: IrqSet, raw: bytes, *, masks: bool) -> None:
        if self._active is not Irq.INTX or asked.count != 1:
            raise Invalid("vfio_irq_set", "index", asked.index, "INTx, set up, and one of it")
        if kind == IrqSet.DATA_EVENTFD:
            raise NotAnIoctl("vfio_irq_set", "flags", asked.flags, "MASK and UNMASK by the call itself")
        if kind == IrqSet.DATA_NONE or raw[0]:
            self._masked = masks
            self._raise_pending()

    def _raise_pending(self) -> None:
        if self._pending and not self._masked and not self._is_wire_disabled:
            self._pending = False
            self.raise_(0)

    def _trigger(self, irq: Irq, asked: SetIrqs, chosen: bytes, kind: IrqSet) -> None:
        is_set_up = self._active is irq if irq in DEVICE_KINDS else bool(self._eventfds[irq])
        if not is_set_up and (irq in DEVICE_KINDS or kind == IrqSet.DATA_NONE):
            raise Invalid("vfio_irq_set", "index", asked.index, "set up by eventfds first")
        if kind == IrqSet.DATA_NONE and not asked.count:
            self._drop(irq)
            return
        self._check_free(irq, asked)
        for vector, wanted in enumerate(chosen, asked.start):
            if wanted:
                self._signal(irq, vector)

    def _give(self, irq: Irq, asked: SetIrqs, raw: bytes, take: Callable[[int], int | None]) -> None:
        """Take eventfds: of whoever calls, without the lock."""
        numbers = [int.from_bytes(raw[at : at + 4], "little", signed=True) for at in range(0, len(raw), 4)]
        with self._lock:
            self._check_free(irq, asked)
        taken = _all_taken(asked.start, numbers, take)
        with self._lock:
            try:
                self._check_free(irq, asked)
            except Invalid:
                _close(taken)
                raise
            if irq in DEVICE_KINDS:
                self._active = irq
            for vector in range(asked.start, asked.start + len(numbers)):
                self._forget(irq, vector)
            self._eventfds[irq].update(taken)

    # --- eventfds

    def _signal(self, irq: Irq, vector: int) -> None:
        """Add one, unless the eventfd is full: it stays so. Who gave it may have it made to block."""
        fd = self._eventfds[irq].get(vector)
        if fd is None:
            return
        if self.told is not None:
            self.told(irq, vector)
        if _has_room(fd):
            with suppress(BlockingIOError):
                os.eventfd_write(fd, 1)

    def _forget(self, irq: Irq, vector: int) -> None:
        fd = self._eventfds[irq].pop(vector, None)
        if fd is not None:
            os.close(fd)

    def _drop(self, irq: Irq) -> None:
        for vector in tuple(self._eventfds[irq]):
            self._forget(irq, vector)
        if self._active is irq:
            self._active = None
            self._masked = self._pending = False


def _all_taken(start: int, numbers: Sequence[int], take: Callable[[int], int | None]) -> dict[int, int]:
    """Take an eventfd for each vector that is given one: all of them, or none. Raises BadFile, Invalid."""
    taken: dict[int, int] = {}
    try:
        for vector, number in enumerate(numbers, start):
            if number != NOBODY:
                taken[vector] = _taken(number, take)
    except BaseException:
        _close(taken)
        raise
    return taken


def _taken(number: int, take: Callable[[int], int | None]) -> int:
    fd = take(number) if number >= 0 else None
    if fd is None:
        raise BadFile("vfio_irq_set", "eventfd", number, "open, or -1")
    if str(Path(f"/proc/self/fd/{fd}").readlink()) != EVENTFD:
        os.close(fd)
        raise Invalid("vfio_irq_set", "eventfd", number, "an eventfd")
    return fd


def _close(taken: dict[int, int]) -> None:
    for fd in taken.values():
        os.close(fd)


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
