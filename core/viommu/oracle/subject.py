"""What is judged: one machine's /dev/iommu, called by simulated processes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viommu.oracle.processes import Process


class Subject:
    """The calls of `viommu.oracle.calls`; each returns what the system call does, a negative errno on failure."""

    def open(self, path: str, flags: int, process: Process) -> Any:
        return object()

    def ioctl(self, process: Process, file: Any, number: int, argument: int) -> int:
        return -errno.ENOTTY

    def read(self, process: Process, file: Any, address: int, count: int) -> int:
        return -errno.EINVAL

    def read_at(self, process: Process, file: Any, address: int, count: int, position: int) -> int:
        return -errno.ESPIPE

    def write(self, process: Process, file: Any, address: int, count: int) -> int:
        return -errno.EINVAL

    def poll(self, process: Process, file: Any, events: int) -> int:
        return events

    def mmap(self, process: Process, file: Any, length: int, prot: int, flags: int, offset: int) -> int:
        return -errno.ENXIO

    def unmap_all(self, process: Process) -> None: ...
    def seek(self, process: Process, file: Any) -> int:
        return -errno.ESPIPE

    def is_pollable(self, file: Any) -> bool:
        return False

    def kind(self, file: Any) -> str:
        return "iommufd"
