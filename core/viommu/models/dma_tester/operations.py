"""What each operation does, a piece at a time."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from viommu.addresses import PAGE_SIZE
from viommu.faults import Access
from viommu.models.dma_tester.task import End
from viommu.models.dma_tester.work import MOST_LENGTH, MOST_PAGES, Operation, Status
from viommu.modelspecs import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.models.dma_tester.registers import Abilities
    from viommu.models.dma_tester.task import Task
    from viommu.models.dma_tester.work import Work

PIECE = 1 << 20
"""Bytes that are moved at a time where the device has them in its hands."""
AT_ONCE, MOST_COPIES = 64 << 20, 1 << 16
"""Bytes that the engine copies before others get their turn, and how often it repeats a copy before that."""
IMMEDIATE = 16
WORD = 8
ADDRESSES = 1 << 64
RIGHTS = Access.READ | Access.WRITE | Access.EXECUTE
ATOMICS = {Operation.FETCH_ADD, Operation.SWAP, Operation.COMPARE_SWAP}
WITHOUT_SOURCE = {Operation.NOP, Operation.WRITE, Operation.FILL, *ATOMICS}
WITHOUT_TARGET = {Operation.NOP, Operation.READ, Operation.TRANSLATE, Operation.REQUEST_PAGES}


def problem(work: Work, able: Abilities) -> Status | None:
    """Say what is wrong with a descriptor before any of it is done; None: nothing."""
    if work.reserved_set or not isinstance(work.Opcode, Operation) or work.Length > MOST_LENGTH:
        return Status.BAD_DESCRIPTOR
    operation = work.Opcode
    has_pasids = (operation in WITHOUT_SOURCE or work.SourcePasidValid) and (
        operation in WITHOUT_TARGET or work.TargetPasidValid
    )
    if (work.Privileged or work.Execute) and not has_pasids:
        return Status.BAD_DESCRIPTOR
    if not _has_length(operation, work):
        return Status.BAD_DESCRIPTOR
    needs_ats = work.Ats or operation is Operation.TRANSLATE
    needs_pri = work.Pri or operation is Operation.REQUEST_PAGES
    lacks = needs_ats > able.ATS or needs_pri > able.PageRequests
    if lacks or work.Privileged > able.Privileged or work.Execute > able.Execute or _wraps(operation, work):
        return Status.IMPOSSIBLE
    return None


def _has_length(operation: Operation, work: Work) -> bool:
    if operation in ATOMICS:
        return work.Length in {4, 8} and not work.Target % work.Length
    if operation is Operation.WRITE:
        return 0 < work.Length <= IMMEDIATE
    if operation is Operation.REQUEST_PAGES:
        pages = (work.Source + work.Length - 1) // PAGE_SIZE - work.Source // PAGE_SIZE + 1
        return work.Length > 0 and pages <= MOST_PAGES and bool(work.Operand & RIGHTS) and work.Operand < 16
    return True


def _wraps(operation: Operation, work: Work) -> bool:
    source_ends = 0 if operation in WITHOUT_SOURCE else work.Source + work.Length
    target_ends = 0 if operation in WITHOUT_TARGET else work.Target + work.Length
    return max(source_ends, target_ends) > ADDRESSES


def step(task: Task) -> None:
    """Do the next piece of a task."""
    STEPS[task.work.Opcode](task)


def _nop(task: Task) -> None:
    task.end = End()


def _read(task: Task) -> None:
    size = min(task.length - task.moved, PIECE)
    held = memoryview(bytearray(size))
    refused = task.bus.read_into(task.source_at + task.moved, held, task.source)
    count = size if refused is None else refused.moved
    task.checksum = zlib.crc32(held[:count], task.checksum)
    if task.advance(count, refused) and task.moved == task.length:
        task.end = End(result=task.checksum)


def _write(task: Task) -> None:
    work = task.work
    whole = (work.Operand | work.Operand2 << 64).to_bytes(IMMEDIATE, "little")[: work.Length]
    _put(task, whole[task.moved :])


def _fill(task: Task) -> None:
    size = min(task.length - task.moved, PIECE)
    begins = task.moved % WORD
    words = task.work.Operand.to_bytes(WORD, "little") * (size // WORD + 2)
    _put(task, memoryview(words)[begins : begins + size])


def _put(task: Task, data: bytes | memoryview) -> None:
    refused = task.bus.write_from(task.target_at + task.moved, data, task.target)
    count = len(data) if refused is None else refused.moved
    if task.advance(count, refused, at_target=True) and task.moved == task.length:
        task.end = End(result=task.moved)


def _copy(task: Task) -> None:
    whole = task.length * max(task.work.Operand, 1)
    if whole > MOST_LENGTH:
        task.end = End(Status.BAD_DESCRIPTOR)
        return
    offset = task.moved % task.length if whole else 0
    if task.is_plain and whole:
        _copy_at_once(task, offset, whole - task.moved)
    elif whole:
        _copy_through(task, offset, min(task.length - offset, PIECE))
    if task.moved == whole:
        task.end = End(result=whole)


def _copy_at_once(task: Task, offset: int, left: int) -> None:
    """Let the engine copy: the rest of one copy, or some whole ones."""
    size, times = min(task.length - offset, AT_ONCE), 1
    if size == task.length:
        times = min(left // size, AT_ONCE // size, MOST_COPIES)
    pasids = task.source.pasid, task.target.pasid
    refused = task.bus.copy(task.source_at + offset, task.target_at + offset, size, *pasids, times=times)
    count = size * times if refused is None else refused.moved
    task.advance(count, refused, at_target=refused is not None and refused.writes)


def _copy_through(task: Task, offset: int, size: int) -> None:
    """Copy by way of the device, whose accesses say more than the engine's copies can."""
    held = memoryview(bytearray(size))
    unread = task.bus.read_into(task.source_at + offset, held, task.source)
    count = size if unread is None else unread.moved
    unwritten = task.bus.write_from(task.target_at + offset, held[:count], task.target) if count else None
    if unwritten is not None:
        task.advance(unwritten.moved, unwritten, at_target=True)
    else:
        task.advance(count, unread)


def _compare(task: Task) -> None:
    work = task.work
    size = min(task.length - task.moved, PIECE)
    one, other = bytearray(size), bytearray(size)
    first = task.bus.read_into(task.source_at + task.moved, one, task.source)
    count = size if first is None else first.moved
    second = task.bus.read_into(task.target_at + task.moved, memoryview(other)[:count], task.target) if count else None
    count = count if second is None else second.moved
    differs = np.flatnonzero(np.frombuffer(one, np.uint8, count) != np.frombuffer(other, np.uint8, count))
    if differs.size:
        task.end = End(result=task.moved + int(differs[0]))
        return
    refused, at_target = (first, False) if second is None else (second, True)
    if task.advance(count, refused, at_target=at_target) and task.moved == task.length:
        task.end = End(result=work.Length)


def _atomic(change: Callable[[int, int, int], int]) -> Callable[[Task], None]:
    def do(task: Task) -> None:
        work = task.work
        wanted = [work.Operand & (1 << 8 * work.Length) - 1, work.Operand2 & (1 << 8 * work.Length) - 1]
        found = task.bus.update(work.Target, work.Length, lambda before: change(before, *wanted), task.target)
        if isinstance(found, Refused):
            task.stop(found, at_target=True)
        else:
            task.end = End(result=found)

    return do


def _translate(task: Task) -> None:
    access = Access.READ | Access.WRITE if task.work.Operand & 1 else Access.READ
    found = task.bus.translate(task.source_at, access, task.source)
    if isinstance(found, Refused):
        task.stop(found)
    else:
        task.end = End(result=found.address, address=found.page_size, detail=int(found.rights))


def _request_pages(task: Task) -> None:
    work = task.work
    pages = range(task.source_at & -PAGE_SIZE, task.source_at + task.length, PAGE_SIZE)
    if not task.ask_for(list(pages), Access(work.Operand), task.source.pasid, task.ended_by):
        task.end = End(Status.IMPOSSIBLE)


STEPS: dict[int, Callable[[Task], None]] = {
    Operation.NOP: _nop,
    Operation.READ: _read,
    Operation.WRITE: _write,
    Operation.COPY: _copy,
    Operation.COMPARE: _compare,
    Operation.FILL: _fill,
    Operation.FETCH_ADD: _atomic(lambda before, operand, _: before + operand),
    Operation.SWAP: _atomic(lambda _, operand, __: operand),
    Operation.COMPARE_SWAP: _atomic(lambda before, operand, operand2: operand2 if before == operand else before),
    Operation.TRANSLATE: _translate,
    Operation.REQUEST_PAGES: _request_pages,
}
