"""What is judged: the /dev/iommu of one machine with the selftest driver, called by simulated processes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from viommu.addresses import PAGE_SIZE
from viommu.iommufd.fd import IommuFd
from viommu.objects.mmap import RegisterMapping
from viommu.selftest.test_cmd import ROWS

if TYPE_CHECKING:
    from viommu.oracle.processes import Process

NODES = {"/dev/iommu": False, "/dev/vfio/vfio": True}
"""Device nodes, and whether they are VFIO's."""

ACCESS_MODE, READ_ONLY = 3, 0
PROT_WRITE, PROT_EXEC = 2, 4
MAP_SHARED, MAP_TYPE = 1, 0xF
TASK_SIZE = (1 << 47) - PAGE_SIZE
POLLNVAL = 0x20


def _refuses_to_map(length: int, flags: int) -> int:
    if length <= 0 or not flags & MAP_TYPE:
        return errno.EINVAL
    return errno.ENOMEM if length > TASK_SIZE else 0


class Subject:
    """System calls, as the kernel answers them: 0 or more, or a negative errno. Files are whatever `open` gives."""

    def __init__(self) -> None:
        """Begin with nothing open."""
        self._read_only: set[int] = set()

    def open(self, path: str, flags: int, process: Process) -> Any:  # noqa: ANN401, ARG002 - a file, or a negative errno
        """Open a device node."""
        if path not in NODES:
            return -errno.ENOENT
        file = IommuFd(ioctls=ROWS, vfio=NODES[path])
        if flags & ACCESS_MODE == READ_ONLY:
            self._read_only.add(id(file))
        return file

    def ioctl(self, process: Process, file: Any, number: int, argument: int) -> int:  # noqa: ANN401
        """Make an ioctl."""
        if file is None:
            return -errno.EBADF
        operation = getattr(file, "ioctl", None)
        result: int = -errno.ENOTTY if operation is None else operation(number, argument, process)
        return result

    def read(self, process: Process, file: Any, address: int, count: int) -> int:  # noqa: ANN401
        """Read an event queue."""
        result: int = -errno.EBADF if file is None else file.read(process, address, count)
        return result

    def read_at(self, process: Process, file: Any, address: int, count: int, position: int) -> int:  # noqa: ANN401
        """Read at a position."""
        result: int = -errno.EBADF if file is None else file.read(process, address, count, position)
        return result

    def write(self, process: Process, file: Any, address: int, count: int) -> int:  # noqa: ANN401
        """Write responses."""
        result: int = (
            -errno.EBADF if file is None or id(file) in self._read_only else file.write(process, address, count)
        )
        return result

    def poll(self, process: Process, file: Any, events: int) -> int:  # noqa: ANN401, ARG002
        """Say what is ready."""
        result: int = POLLNVAL if file is None else file.poll(events)
        return result

    def mmap(self, process: Process, file: Any, length: int, prot: int, flags: int, offset: int) -> int:  # noqa: ANN401
        """Map registers; the checks before the file's own are every file's."""
        if offset % PAGE_SIZE:
            return -errno.EINVAL
        if file is None:
            return -errno.EBADF
        refused = _refuses_to_map(length, flags) or self._refuses_rights(file, prot, flags)
        if refused:
            return -refused
        if not isinstance(file, IommuFd):
            return -(errno.EINVAL if self.kind(file) == "dmabuf" else errno.ENODEV)
        mapped = file.mmap(length, prot, flags, offset)
        if not isinstance(mapped, RegisterMapping):
            return mapped
        process.registers.append(mapped)
        return 0

    def _refuses_rights(self, file: Any, prot: int, flags: int) -> int:  # noqa: ANN401
        read_only = id(file) in self._read_only or getattr(file, "is_read_only", False)
        if read_only and flags & MAP_SHARED:
            return errno.EACCES if prot & PROT_WRITE else errno.EINVAL if isinstance(file, IommuFd) else 0
        return errno.EPERM if prot & PROT_EXEC and not isinstance(file, IommuFd) else 0

    def kind(self, file: Any) -> str:  # noqa: ANN401
        """Name what a file is, as recordings do."""
        return "iommufd" if isinstance(file, IommuFd) else str(getattr(file, "kind", ""))
