"""DESTROY, OPTION and VFIO_IOAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.handlers.checks import refuse_reserved
from viommu.iommufd.uapi import OptionId, OptionOp, VfioIoasOp
from viommu.kernel_errors import Busy, Invalid, NoDevice, NotPermitted, Unsupported
from viommu.objects.context import Accounting
from viommu.objects.ioas import Ioas

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call


def destroy(call: Call[uapi.Destroy]) -> None:
    """DESTROY: an object of any type that nobody holds."""
    table = call.context.table
    table.destroy(table.any(call.cmd.id))


def option(call: Call[uapi.Option]) -> None:
    """OPTION: read or set one; only ``val64`` is written back."""
    cmd = call.cmd
    refuse_reserved(cmd)
    if cmd.option_id == OptionId.RLIMIT_MODE:
        _rlimit_mode(call)
    elif cmd.option_id == OptionId.HUGE_PAGES:
        _huge_pages(call)
    else:
        raise Unsupported(cmd.kernel_name, "option_id", cmd.option_id, "RLIMIT_MODE or HUGE_PAGES")
    start = cmd.offsets["val64"]
    call.respond(start, start + 8)


def vfio_ioas(call: Call[uapi.VfioIoas]) -> None:
    """VFIO_IOAS: which IOAS VFIO compatibility uses; no reference is taken."""
    cmd, context = call.cmd, call.context
    refuse_reserved(cmd)
    if cmd.op == VfioIoasOp.GET:
        if context.compat is None:
            raise NoDevice("VFIO compatibility", "IOAS", bound="set")
        cmd.ioas_id = context.compat.id
        call.respond()
    elif cmd.op == VfioIoasOp.SET:
        context.compat = context.table.find(cmd.ioas_id, Ioas, "ioas_id")
    elif cmd.op == VfioIoasOp.CLEAR:
        context.compat = None
    else:
        raise Unsupported(cmd.kernel_name, "op", cmd.op, "GET, SET or CLEAR")


def _rlimit_mode(call: Call[uapi.Option]) -> None:
    cmd, context = call.cmd, call.context
    if cmd.object_id:
        raise Unsupported(cmd.kernel_name, "object_id", cmd.object_id, "0")
    if cmd.op == OptionOp.GET:
        cmd.val64 = context.accounting
    elif cmd.op == OptionOp.SET:
        _set_rlimit_mode(call)
    else:
        raise Unsupported(cmd.kernel_name, "op", cmd.op, "GET or SET")


def _set_rlimit_mode(call: Call[uapi.Option]) -> None:
    cmd, context = call.cmd, call.context
    if not call.process.account.sys_resource:
        raise NotPermitted(cmd.kernel_name, "RLIMIT_MODE", cmd.val64, "set with CAP_SYS_RESOURCE")
    if not context.table.is_empty:
        raise Busy(cmd.kernel_name, "RLIMIT_MODE", cmd.val64, "set before there are objects")
    if cmd.val64 not in tuple(Accounting):
        raise Invalid(cmd.kernel_name, "val64", cmd.val64, "0 or 1")
    context.accounting = Accounting(cmd.val64)


def _huge_pages(call: Call[uapi.Option]) -> None:
    cmd = call.cmd
    ioas = call.context.table.find(cmd.object_id, Ioas, "object_id")
    if cmd.op == OptionOp.GET:
        cmd.val64 = int(ioas.huge_pages)
    elif cmd.op == OptionOp.SET:
        if cmd.val64 not in (0, 1):
            raise Invalid(cmd.kernel_name, "val64", cmd.val64, "0 or 1")
        ioas.set_huge_pages(bool(cmd.val64))
    else:
        raise Unsupported(cmd.kernel_name, "op", cmd.op, "GET or SET")
