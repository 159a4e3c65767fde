"""From the bytes of an ioctl to its handler and back: ONE table, and the kernel's rules of size.

The order of the checks is the kernel's: the number's low byte, the size at the pointer, the whole number, the
least size, the zero tail, then the handler; last the reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from attrs import define, field, frozen

from viommu.iommufd.uapi_struct import UapiStruct
from viommu.kernel_errors import BadAddress, Invalid, NotAnIoctl, TooBig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.iommufd.user_memory import UserFile, UserProcess
    from viommu.objects.context import Context
    from viommu.objects.table import AnObject, Object

TYPE_LETTER = 0x3B
FIRST, ANY_LOW = 0x80, 0xFF
TAIL_STEP = 1 << 20

S = TypeVar("S", bound=UapiStruct)


@define(eq=False)
class Call(Generic[S]):
    """One ioctl in progress: who calls, on which open file, with which structure (``cmd``, the kernel's copy)."""

    context: Context
    process: UserProcess
    address: int
    cmd: S
    size: int
    created: list[Object] = field(factory=list)
    files: list[int] = field(factory=list)

    def respond(self, start: int = 0, end: int | None = None) -> None:
        """Copy the structure back, as far as the caller has it; or bytes [start, end) of it. Raises BadAddress."""
        raw = self.cmd.encode()
        if start or end is not None or self.size < len(raw):
            raw = raw[: self.size][start:end]
        if not self.process.write(self.address + start, raw):
            raise BadAddress(self.cmd.kernel_name, "argument", self.address, "writable for the reply")

    def create(self, new: AnObject) -> AnObject:
        """Reserve an id for an object that is published once the reply is written.

        If the call fails it is destroyed where ``built`` says that it has something to undo.
        """
        self.context.table.reserve(new)
        self.created.append(new)
        return new

    def install(self, file: UserFile) -> int:
        """Give a file an fd, which is taken back if the call fails."""
        fd = self.process.install(file)
        self.files.append(fd)
        return fd

    def undo(self) -> None:
        """Destroy what was made, the youngest first."""
        for fd in reversed(self.files):
            self.process.uninstall(fd)
        for new in reversed(self.created):
            self.context.table.abort(new)
            new.users = 0
            if new.built:
                new.destroy()


@frozen
class Ioctl(Generic[S]):
    """One row of the table. ``replies``: the structure is copied back after the handler."""

    name: str
    number: int
    struct: type[S]
    handler: Callable[[Call[S]], int | None]
    replies: bool = True


AnyIoctl: TypeAlias = "Ioctl[Any]"


def dispatch(
    table: Mapping[int, AnyIoctl],
    last: int,
    compat: Callable[[Context, UserProcess, int, int], int],
    context: Context,
    process: UserProcess,
    number: int,
    address: int,
) -> int:
    """Run one ioctl: its result, 0 or more. Raises KernelError.

    Mainline's rows are found by their low byte, of which ``last`` is the highest; experimental ones by their number.
    """
    low = number & 0xFF
    row = table.get(number) if number > ANY_LOW else None
    if row is None and (low < FIRST or low > last):
        with context.lock:
            return compat(context, process, number, address)
    row = row or table.get(low)
    raw = None if row is None else process.read(address, row.struct.total)
    size = _size_at(process, address) if raw is None else int.from_bytes(raw[:4], "little")
    if row is None or row.number != number:
        raise NotAnIoctl("ioctl", "number", number, "no ioctl of /dev/iommu")
    cmd = row.struct.decode(raw) if raw is not None and size == len(raw) else _copied_in(row, process, address, size)
    call: Call[Any] = Call(context, process, address, cmd, size)
    with context.lock:
        return _run(row, call)


def _run(row: Ioctl[S], call: Call[S]) -> int:
    call.context.activity.ioctls[row.name] += 1
    try:
        result = row.handler(call)
        if row.replies:
            call.respond()
    except BaseException:
        call.undo()
        raise
    for new in call.created:
        call.context.table.publish(new)
    return result or 0


def _size_at(process: UserProcess, address: int) -> int:
    raw = process.read(address, 4)
    if raw is None:
        raise BadAddress("ioctl", "argument", address, "a readable structure")
    return int.from_bytes(raw, "little")


def _copied_in(row: Ioctl[S], process: UserProcess, address: int, size: int) -> S:
    struct = row.struct
    if size < struct.least:
        raise Invalid(struct.kernel_name, "size", size, f"at least {struct.least:#x}")
    raw = process.read(address, min(size, struct.total))
    if raw is None:
        raise BadAddress(struct.kernel_name, "argument", address, f"{size:#x} readable bytes")
    if size > struct.total:
        _check_tail(struct, process, address, size)
    return struct.decode(raw.ljust(struct.total, b"\0"))


def _check_tail(struct: type[UapiStruct], process: UserProcess, address: int, size: int) -> None:
    for start in range(struct.total, size, TAIL_STEP):
        raw = process.read(address + start, min(TAIL_STEP, size - start))
        if raw is None:
            raise BadAddress(struct.kernel_name, "size", size, "readable bytes")
        if raw.strip(b"\0"):
            raise TooBig(struct.kernel_name, "size", size, f"{struct.total:#x} bytes, or zeros after them")
