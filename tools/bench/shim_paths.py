"""What programs pay that are served: an ioctl through the shim, a doorbell on a page that is shared memory.

A program and the service share one CPU meanwhile. Else it is the scheduler that is measured: where it puts the two,
and how long an idle CPU takes to wake up.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path as File
from shutil import which
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING

from attrs import define, field

from tools.bench.paths import Path
from viommu import Iotlb, Machine
from viommu.iommufd.uapi import Destroy, IoasAlloc
from viommu.service.run import served
from viommu.vfio.devices import Devices, Plug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CLIENTS = File(__file__).parents[2] / "tests" / "clients"
TIMES = 1500
EDU = "0000:00:10.0"


@define(eq=False)
class Programs:
    """Programs in C, compiled when they are first run."""

    folder: tempfile.TemporaryDirectory[str] = field(factory=tempfile.TemporaryDirectory)

    def told(self, source: File, *words: str, environment: Mapping[str, str] | None = None) -> float:
        """Run one, beside this process on one CPU: the number that it prints. Raises CalledProcessError."""
        program = File(self.folder.name) / source.stem
        if not program.exists():
            options = ["-O1", "-pthread", "-o", str(program)]
            subprocess.run([which("gcc") or "gcc", *options, str(source)], check=True)  # noqa: S603 # ours
        done = subprocess.run(  # noqa: S603
            [program, *words], env={**os.environ, **(environment or {})}, check=True, stdout=subprocess.PIPE, text=True
        )
        return float(done.stdout)

    def told_when_served(self, driver: str, plugs: tuple[str, ...], source: File, *words: str) -> float:
        """Run one that finds a machine."""
        with Machine(driver, iotlb=Iotlb(entries=1024)) as machine:
            devices = Devices(machine)
            for plug in plugs:
                devices.add(Plug.parse(plug))
            with served(machine, devices) as environment:
                return self.told(source, *words, environment=environment)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Let what begins meanwhile, threads and programs, share a CPU."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def in_process() -> float:
    """Give the nanoseconds of one of the same ioctls in this process, in the middle."""
    with Machine("selftest") as machine:
        file, process = machine.open_file(), machine.process
        alloc, destroy = file.number_of(IoasAlloc), file.number_of(Destroy)
        made = ctypes.create_string_buffer(IoasAlloc.of().encode(), IoasAlloc.total)
        gone = ctypes.create_string_buffer(Destroy.of().encode(), Destroy.total)
        places = ctypes.addressof(made), ctypes.addressof(gone)
        times = []
        for _ in range(TIMES):
            before = perf_counter_ns()
            file.ioctl(alloc, places[0], process)
            between = perf_counter_ns()
            gone.raw = gone.raw[:4] + made.raw[8:12]
            again = perf_counter_ns()
            file.ioctl(destroy, places[1], process)
            times.append((between - before + perf_counter_ns() - again) / 2)
        return median(times)


def ioctl_paths() -> list[Path]:
    """Give an ioctl through the shim, and what it is held against."""
    programs, client = Programs(), File(__file__).with_name("ioctl_client.c")

    def through_the_shim() -> float:
        with on_one_cpu():
            return programs.told_when_served("selftest", (), client, "ioctl")

    def round_trip() -> float:
        with on_one_cpu():
            return programs.told(client, "trip")

    return [
        Path("an ioctl through the shim", figure=through_the_shim),
        Path("an ioctl in process and 2 empty round trips", figure=lambda: in_process() + 2 * round_trip()),
        Path("an ioctl in process", figure=in_process),
        Path("an empty round trip", figure=round_trip),
    ]


def doorbell_paths() -> list[Path]:
    """Give a doorbell that no call carries: from a program's store to what it sees of it."""
    programs, client = Programs(), CLIENTS / "nested_smmuv3.c"

    def told() -> float:
        return programs.told_when_served("smmuv3_cmdqv", (f"edu@{EDU}",), client, EDU, "latency")

    return [Path("vCMDQ, a doorbell on shared memory", figure=told)]


def groups() -> dict[str, Callable[[], list[Path]]]:
    """Give the groups of programs that are served."""
    return {"ioctls of programs": ioctl_paths, "doorbells of programs": doorbell_paths}
