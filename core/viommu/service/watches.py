"""BARs that programs have mapped: one thread for each device looks for what they stored."""

from __future__ import annotations

import time
from threading import RLock, Thread
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from viommu.vfio.device_file import DeviceFile
    from viommu.vfio.function import Function

log = structlog.get_logger()

BUSY, IDLE = 20e-6, 1e-3
"""Seconds between two looks: while a program stores, and when it has not for a while."""
AWHILE = 0.5


class Watches:
    """All of them; each ends when its file is released."""

    def __init__(self) -> None:
        """Begin with none."""
        self._watched: dict[Function, Thread] = {}
        self._lock = RLock()
        self._ended = False

    def add(self, file: DeviceFile) -> None:
        """Watch a device from now on, if it is not watched yet."""
        function = file.function
        with self._lock:
            thread = self._watched.get(function)
            if thread is not None and thread.is_alive():
                return
            thread = Thread(target=self._watch, args=(file,), name=f"viommu watch {function.name}", daemon=True)
            self._watched[function] = thread
            thread.start()

    def close(self) -> None:
        """End all."""
        self._ended = True
        with self._lock:
            for thread in self._watched.values():
                thread.join()

    def _watch(self, file: DeviceFile) -> None:
        last = time.monotonic()
        while not self._ended and file.device is not None:
            try:
                stored = file.function.settle()
            except Exception:
                log.exception("a device model failed", device=file.function.name)
                stored = False
            now = time.monotonic()
            if stored:
                last = now
            time.sleep(BUSY if now - last < AWHILE else IDLE)
