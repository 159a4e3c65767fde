"""An open /dev/iommu.

The public call is

    IommuFd.ioctl(number: int, argument: int, process: UserProcess) -> int

``argument`` is the user address of the structure in ``process`` (or the plain integer that some VFIO ioctls take).
The answer is what the system call would return: 0 or more, or a negative errno. No KernelError leaves it; `explain`
is told each. A DriverBug does leave it: that is no answer of a kernel.

`read`, `write`, `poll`, `mmap` and `release` are those of the file; `IommuFd` is a `UserFile`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from viommu.activity import Activity
from viommu.iommufd import vfio_compat
from viommu.iommufd.dispatch import dispatch
from viommu.iommufd.handlers import ROWS, ahead
from viommu.iommufd.handlers.behind import table_of
from viommu.iommufd.plain_file import PlainFile
from viommu.kernel_errors import KernelError
from viommu.objects.context import Accounting, Context
from viommu.objects.mmap import RegisterMapping
from viommu.policies import MAINLINE
from viommu.uapi_profiles import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from viommu.iommufd.dispatch import AnyIoctl
    from viommu.iommufd.uapi_struct import UapiStruct
    from viommu.iommufd.user_memory import UserProcess
    from viommu.policies import Policy
    from viommu.uapi_profiles import Profile


class IommuFd(PlainFile):
    """One open file. ``vfio``: it was opened as /dev/vfio/vfio, and counts pinned pages against the process."""

    def __init__(
        self,
        ioctls: Iterable[AnyIoctl] = (),
        *,
        vfio: bool = False,
        explain: Callable[[KernelError], None] | None = None,
        policy: Policy = MAINLINE,
        profile: Profile = CURRENT,
        activity: Activity | None = None,
    ) -> None:
        """Open it. ``ioctls`` are rows that a driver adds to the table, as a test kernel does.

        ``policy``: which experimental calls there are, the machine's; ``profile``: of which release the uAPI is.
        ``activity``: where calls are counted, the machine's.
        """
        accounting = Accounting.MM if vfio else Accounting.USER
        self.context = Context(accounting, policy, profile, activity or Activity())
        self._table = table_of(profile) | {row.number & 0xFF: row for row in ioctls}
        self._last = max(self._table)
        self._table |= ahead.rows(policy)
        self.explain = explain

    def run(self, number: int, argument: int, process: UserProcess) -> int:
        """Make an ioctl: 0 or more. Raises KernelError."""
        return dispatch(self._table, self._last, vfio_compat.ioctl, self.context, process, number, argument)

    def number_of(self, struct: type[UapiStruct]) -> int:
        """Say which ioctl takes a structure, whether this file knows the ioctl or not. Raises TypeError."""
        number = self._numbers.get(struct)
        if number is None:
            raise TypeError(f"no ioctl takes a {struct.__name__}")
        return number

    def named(self, number: int) -> tuple[str, type[UapiStruct] | None] | None:
        """Say what an ioctl is called, and which structure it takes; None where there is none of the number."""
        row = self._table.get(number) or self._table.get(number & 0xFF)
        if row is not None and row.number == number:
            return row.name, row.struct
        return vfio_compat.NAMES.get(number)

    @cached_property
    def _numbers(self) -> dict[type[UapiStruct], int]:
        return {row.struct: row.number for row in (*ROWS, *ahead.EVERY, *self._table.values())}

    def ioctl(self, number: int, argument: int, process: UserProcess) -> int:
        """Make an ioctl: 0 or more, or a negative errno."""
        try:
            return self.run(number, argument, process)
        except KernelError as error:
            if self.explain is not None:
                self.explain(error)
            return -error.code

    def mmap(self, length: int, prot: int, flags: int, offset: int) -> RegisterMapping | int:
        """Answer mmap: a mapping of registers, or a negative errno."""
        with self.context.lock:
            region = self.context.offsets.check(length, prot, flags, offset)
            if isinstance(region, int):
                return region
            return RegisterMapping.of(self.context, region)

    def release(self) -> None:
        """Take note that the last fd is closed: everything goes, but what event and access fds still need."""
        self.context.release()
