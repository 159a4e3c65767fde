"""Interrupts of a function: eventfds that user space gives, by kind and vector."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import BadFile, Invalid
from viommu.vfio.uapi import ACTIONS, DATA_KINDS, IRQS, Irq, IrqFlags, IrqSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from viommu.vfio.uapi import SetIrqs

NOBODY = -1
"""An eventfd's number: take this vector's away."""


@define(eq=False)
class Interrupts:
    """One function's. ``counts``: how many vectors it has of each kind."""

    counts: dict[Irq, int]
    _eventfds: dict[Irq, dict[int, int]] = field(factory=lambda: {irq: {} for irq in Irq})
    _masked: bool = False
    _pending: bool = False

    def raise_(self, vector: int) -> None:
        """Raise one, as software has set the function up."""
        for irq in (Irq.MSIX, Irq.MSI):
            if self._eventfds[irq]:
                self._signal(irq, vector)
                return
        if self._masked:
            self._pending = True
        elif 0 in self._eventfds[Irq.INTX]:
            self._masked = True
            self._signal(Irq.INTX, 0)

    def info(self, index: int) -> tuple[int, int]:
        """Give (flags, count) of a kind. Raises Invalid."""
        if index >= IRQS:
            raise Invalid("vfio_irq_info", "index", index, f"below {IRQS}")
        irq = Irq(index)
        flags = IrqFlags.EVENTFD | (IrqFlags.MASKABLE | IrqFlags.AUTOMASKED if irq is Irq.INTX else IrqFlags.NORESIZE)
        return int(flags), self.counts.get(irq, 0)

    def set(self, asked: SetIrqs, data: Callable[[int], bytes], take: Callable[[int], int | None]) -> None:
        """Do what SET_IRQS asks; ``data(size)`` gives what follows it, ``take(fd)`` a descriptor of our own.

        Raises Invalid, BadFile, and whatever ``data`` raises.
        """
        kind, action = asked.flags & DATA_KINDS, asked.flags & ACTIONS
        count = self._checked(asked, kind, action)
        irq = Irq(asked.index)
        if kind == IrqSet.DATA_EVENTFD:
            fds = data(4 * count)
            numbers = [int.from_bytes(fds[at : at + 4], "little", signed=True) for at in range(0, len(fds), 4)]
            if action != IrqSet.ACTION_TRIGGER:
                raise Invalid("vfio_irq_set", "flags", asked.flags, "eventfds for ACTION_TRIGGER")
            self._give(irq, asked.start, numbers, take)
            return
        chosen = bytes(data(count)) if kind == IrqSet.DATA_BOOL else b"\1" * count
        if action == IrqSet.ACTION_TRIGGER:
            self._trigger(irq, asked.start, chosen, disable=kind == IrqSet.DATA_NONE and not count)
        elif irq is not Irq.INTX:
            raise Invalid("vfio_irq_set", "flags", asked.flags, "MASK and UNMASK for INTx")
        else:
            self._mask(masked=action == IrqSet.ACTION_MASK)

    def close(self) -> None:
        """Forget all eventfds."""
        for irq in Irq:
            self._drop(irq)
        self._masked = self._pending = False

    def _checked(self, asked: SetIrqs, kind: int, action: int) -> int:
        bad_kind = kind not in {IrqSet.DATA_NONE, IrqSet.DATA_BOOL, IrqSet.DATA_EVENTFD}
        bad_action = action not in {IrqSet.ACTION_MASK, IrqSet.ACTION_UNMASK, IrqSet.ACTION_TRIGGER}
        if asked.flags & ~(DATA_KINDS | ACTIONS) or bad_kind or bad_action:
            raise Invalid("vfio_irq_set", "flags", asked.flags, "one kind of data and one action")
        if asked.index >= IRQS:
            raise Invalid("vfio_irq_set", "index", asked.index, f"below {IRQS}")
        have = self.counts.get(Irq(asked.index), 0)
        if asked.start >= have or asked.start + asked.count > have:
            raise Invalid("vfio_irq_set", "start + count", asked.start + asked.count, f"at most {have}")
        return asked.count

    def _give(self, irq: Irq, start: int, numbers: Sequence[int], take: Callable[[int], int | None]) -> None:
        taken: dict[int, int] = {}
        try:
            for vector, number in enumerate(numbers, start):
                if number != NOBODY:
                    taken[vector] = _taken(number, take)
        except BaseException:
            for fd in taken.values():
                os.close(fd)
            raise
        for vector in range(start, start + len(numbers)):
            self._forget(irq, vector)
        self._eventfds[irq].update(taken)

    def _trigger(self, irq: Irq, start: int, chosen: bytes, *, disable: bool) -> None:
        if disable:
            self._drop(irq)
            return
        for vector, wanted in enumerate(chosen, start):
            if wanted:
                self._signal(irq, vector)

    def _mask(self, *, masked: bool) -> None:
        self._masked = masked
        if not masked and self._pending:
            self._pending = False
            self.raise_(0)

    def _signal(self, irq: Irq, vector: int) -> None:
        fd = self._eventfds[irq].get(vector)
        if fd is not None:
            try:
                os.write(fd, (1).to_bytes(8, "little"))
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EINVAL}:  # full, or no eventfd
                    raise

    def _forget(self, irq: Irq, vector: int) -> None:
        fd = self._eventfds[irq].pop(vector, None)
        if fd is not None:
            os.close(fd)

    def _drop(self, irq: Irq) -> None:
        for vector in tuple(self._eventfds[irq]):
            self._forget(irq, vector)


def _taken(number: int, take: Callable[[int], int | None]) -> int:
    fd = take(number) if number >= 0 else None
    if fd is None:
        raise BadFile("vfio_irq_set", "eventfd", number, "open, or -1")
    return fd
