"""IOMMU_TEST_CMD: one ioctl with many operations, as test kernels have it. ``ROWS`` add it to an open file."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attrs import frozen

from viommu.iommufd.dispatch import Ioctl
from viommu.iommufd.handlers import ioas
from viommu.iommufd.uapi import IoasCopy, TestCmd
from viommu.kernel_errors import NotThere, Unsupported
from viommu.objects.ioas import Ioas
from viommu.selftest import access_ops, check_ops, device_ops, operands
from viommu.selftest.access_file import AccessFile
from viommu.selftest.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu.iommufd.dispatch import Call
    from viommu.iommufd.uapi_struct import UapiStruct


@frozen
class Row:
    """One operation: its name, what its body holds, what does it, and whether the command is copied back."""

    name: str
    operands: type[UapiStruct]
    handler: Callable[[Operation[Any]], int | None]
    replies: bool = False
    on_access: bool = False
    """The command's ``id`` is the fd of an access."""


REPLIES = ON_ACCESS = True
QUIET = False

OPERATIONS = {
    1: Row("ADD_RESERVED", operands.Range, device_ops.add_reserved),
    2: Row("MOCK_DOMAIN", operands.MockDomain, device_ops.mock_domain, REPLIES),
    3: Row("MD_CHECK_MAP", operands.CheckMap, check_ops.check_map),
    4: Row("MD_CHECK_REFS", operands.CheckRefs, check_ops.check_refs),
    5: Row("CREATE_ACCESS", operands.CreateAccess, access_ops.create, REPLIES),
    6: Row("DESTROY_ACCESS_PAGES", operands.DestroyPages, access_ops.destroy_pages, QUIET, ON_ACCESS),
    7: Row("ACCESS_PAGES", operands.AccessPages, access_ops.pin, REPLIES, ON_ACCESS),
    8: Row("ACCESS_RW", operands.AccessRw, access_ops.read_write, QUIET, ON_ACCESS),
    9: Row("SET_TEMP_MEMORY_LIMIT", operands.MemoryLimit, check_ops.set_memory_limit),
    10: Row("MOCK_DOMAIN_REPLACE", operands.Replace, device_ops.replace, REPLIES),
    11: Row("ACCESS_REPLACE_IOAS", operands.Replace, access_ops.replace, QUIET, ON_ACCESS),
    12: Row("MOCK_DOMAIN_FLAGS", operands.MockDomain, device_ops.mock_domain_flags, REPLIES),
    13: Row("DIRTY", operands.Dirty, check_ops.set_dirty, REPLIES),
    14: Row("MD_CHECK_IOTLB", operands.CheckEntry, check_ops.check_iotlb),
    15: Row("TRIGGER_IOPF", operands.TriggerIopf, device_ops.trigger_iopf),
    16: Row("DEV_CHECK_CACHE", operands.CheckEntry, check_ops.check_cache),
    17: Row("TRIGGER_VEVENT", operands.TriggerVevent, device_ops.trigger_vevent),
    18: Row("PASID_ATTACH", operands.Pasid, device_ops.pasid_attach, REPLIES),
    19: Row("PASID_REPLACE", operands.Pasid, device_ops.pasid_replace, REPLIES),
    20: Row("PASID_DETACH", operands.Pasid, device_ops.pasid_detach),
    21: Row("PASID_CHECK_HWPT", operands.Pasid, check_ops.check_pasid),
    22: Row("DMABUF_GET", operands.DmaBufGet, device_ops.dma_buf_get),
    23: Row("DMABUF_REVOKE", operands.DmaBufRevoke, device_ops.dma_buf_revoke),
}
"""By the command's ``op``."""


def run(call: Call[TestCmd]) -> int | None:
    """Run one operation."""
    row = OPERATIONS.get(call.cmd.op)
    if row is None:
        raise Unsupported(call.cmd.kernel_name, "op", call.cmd.op, "a known operation")
    body = call.cmd.body
    operation = Operation(call, row.operands.decode(body[: row.operands.total]))
    with _lock_of_target(operation, row):
        return _run(operation, row)


def _run(operation: Operation[Any], row: Row) -> int | None:
    call = operation.call
    try:
        result = row.handler(operation)
        if row.replies:
            call.cmd.body = operation.body.encode() + call.cmd.body[row.operands.total :]
            call.respond()
    except BaseException:
        operation.undo()
        raise
    return result


@contextmanager
def _lock_of_target(operation: Operation[Any], row: Row) -> Iterator[None]:
    """Hold the lock of the open file that an access belongs to, which may be another one than the ioctl's.

    The ioctl's own is let go meanwhile, for two threads might take the two in different orders.
    """
    file = operation.process.file(operation.id) if row.on_access else None
    if not isinstance(file, AccessFile) or file.context is operation.context:
        yield
        return
    operation.context.lock.release()
    try:
        with file.context.lock:
            yield
    finally:
        operation.context.lock.acquire()


def copy(call: Call[IoasCopy]) -> None:
    """IOAS_COPY of a test kernel: with a flag of the tests' own, the source is an area's number and an offset."""
    cmd = call.cmd
    if cmd.flags & access_ops.BY_AREA:
        cmd.flags &= ~access_ops.BY_AREA
        with suppress(NotThere):
            source = call.context.table.find(cmd.src_ioas_id, Ioas, "src_ioas_id")
            cmd.src_iova = access_ops.area_iova(source, cmd.src_iova)
    ioas.copy(call)


ROW = Ioctl("IOMMU_TEST_CMD", 0x3BA0, TestCmd, run, replies=False)
ROWS = (ROW, Ioctl("IOMMU_IOAS_COPY", 0x3B83, IoasCopy, copy))
"""What a test kernel answers in its own way."""
