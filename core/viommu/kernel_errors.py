"""What a system call answers when it refuses: one exception class for each errno, as the kernel means it.

Each is an `OSError` that carries the errno, and names the object, the field, the value and the bound.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from viommu.errors import ViommuError, shown

__all__ = [
    "AddressInUse",
    "BadAddress",
    "BadFile",
    "Busy",
    "DifferentData",
    "Exists",
    "IllegalSeek",
    "Invalid",
    "IoError",
    "KernelError",
    "MessageTooLong",
    "NoAddress",
    "NoDevice",
    "NoMemory",
    "NoSpace",
    "NotAnIoctl",
    "NotPermitted",
    "NotThere",
    "OutOfRangeSize",
    "Overflow",
    "TooBig",
    "TooManyFiles",
    "Unsupported",
    "WouldDeadlock",
    "WrongFile",
]

NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK", errno.EAGAIN: "EAGAIN"}
"""Names of errnos that have two, as the kernel's sources write them."""


class KernelError(ViommuError, OSError):
    """A call is refused; ``code`` is the errno.

    ``what`` is the object (``IOAS 3``), ``field`` what of it (``length``), ``bound`` what the value has to be.
    """

    code: ClassVar[int] = errno.EIO

    done: int | None = None
    """Of a batch, how many entries were executed before it was refused."""

    def __init__(self, what: str, field: str = "", value: object = None, bound: str = "") -> None:
        """Say what is refused, and why."""
        super().__init__()
        self.errno = self.code
        self.what, self.field, self.value, self.bound = what, field, value, bound

    def __str__(self) -> str:
        code = self.errno or self.code
        name = NAMES.get(code) or errno.errorcode.get(code, str(code))
        subject = " ".join(part for part in (self.what, self.field) if part)
        value = "" if self.value is None else f" {shown(self.value)}"
        bound = f": {self.bound}" if self.bound else ""
        return f"{name}: {subject}{value}{bound}"

    __repr__ = __str__


class NotAnIoctl(KernelError):
    """The number names no ioctl of this file."""

    code = errno.ENOTTY


class Invalid(KernelError):
    """Understood, but wrong."""

    code = errno.EINVAL


class Unsupported(KernelError):
    """A flag, a type or a reserved field that this kernel, driver or device does not know."""

    code = errno.EOPNOTSUPP


class NotThere(KernelError):
    """An id or an IOVA names nothing, or an object of another type."""

    code = errno.ENOENT


class Busy(KernelError):
    """Somebody still uses it."""

    code = errno.EBUSY


class Exists(KernelError):
    """The place is taken."""

    code = errno.EEXIST


class BadAddress(KernelError):
    """User memory is not there, or not with this right."""

    code = errno.EFAULT


class TooBig(KernelError):
    """A structure is longer than this kernel's, and the rest is not zero."""

    code = errno.E2BIG


class Overflow(KernelError):
    """A range runs beyond the last address."""

    code = errno.EOVERFLOW


class OutOfRangeSize(KernelError):
    """A size is beyond what arithmetic on pages allows."""

    code = errno.ERANGE


class AddressInUse(KernelError):
    """A range that would have to be free of it holds a mapping, or is allowed to hold some."""

    code = errno.EADDRINUSE


class NoSpace(KernelError):
    """Nothing free is left to hand out."""

    code = errno.ENOSPC


class NoMemory(KernelError):
    """An allocation failed, or a limit on locked memory is reached."""

    code = errno.ENOMEM


class NotPermitted(KernelError):
    """A right or capability is missing."""

    code = errno.EPERM


class NoDevice(KernelError):
    """What is asked for is gone, or was never set."""

    code = errno.ENODEV


class NoAddress(KernelError):
    """No region of registers lies there."""

    code = errno.ENXIO


class BadFile(KernelError):
    """An fd is not open."""

    code = errno.EBADF


class WrongFile(KernelError):
    """An fd is open, but of another kind."""

    code = errno.EBADFD


class MessageTooLong(KernelError):
    """The buffer is too short for the whole answer."""

    code = errno.EMSGSIZE


class IoError(KernelError):
    """The hardware, or its driver, refuses."""

    code = errno.EIO


class IllegalSeek(KernelError):
    """A position or a size that this file cannot be read with."""

    code = errno.ESPIPE


class DifferentData(KernelError):
    """Two things that should be the same pages are not."""

    code = errno.EBADE


class WouldDeadlock(KernelError):
    """Somebody does not let go, however often he is asked."""

    code = errno.EDEADLOCK


def refusal(code: int, what: str, field: str = "", value: object = None, bound: str = "") -> KernelError:
    """Make the error of an errno, for an answer that came as a number."""
    for kind in KernelError.__subclasses__():
        if kind.code == code:
            return kind(what, field, value, bound)
    error = KernelError(what, field, value, bound)
    error.errno = code
    return error


class TooManyFiles(KernelError):
    """A process has as many descriptors as it may."""

    code = errno.EMFILE
