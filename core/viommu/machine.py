"""A machine: physical memory, IOMMUs, the devices behind them, and the host that runs their drivers."""

from __future__ import annotations

from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING

from viommu import drivers
from viommu.activity import Activity
from viommu.addresses import PAGE_SIZE
from viommu.api.iommufd import Iommufd
from viommu.bring_up import bring_up
from viommu.drivers import BoundDriver
from viommu.endpoint import Endpoint
from viommu.errors import BadValue
from viommu.instance.dma import BusAbort
from viommu.instance.dma_copy import CopyStopped
from viommu.instance.iommu import Iommu
from viommu.iommufd.fd import IommuFd
from viommu.iommufd.local import LocalProcess
from viommu.memory import PhysicalMemory
from viommu.objects.vm import VirtualMachine
from viommu.ops import DeviceFeatures
from viommu.policies import MAINLINE, Policy
from viommu.ram import Ram
from viommu.register_watch import RegisterWatch
from viommu.sizes import size_of
from viommu.summary import Summary
from viommu.table_frames import TableFrames
from viommu.uapi_profiles import NEWEST, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from viommu._engine import Iotlb
    from viommu.board import Observer
    from viommu.hookspecs import Registers
    from viommu.objects.physical import PhysicalIommu
    from viommu.platform import Interrupt, TlbBroadcast

__all__ = ["BusAbort", "CopyStopped", "Machine"]


class Machine(Iommu):
    """A machine, and its first IOMMU: whatever an `Iommu` can be asked is asked of that one.

    ``driver`` is the name of an installed one, or one that `viommu.drivers` bound. ``memory`` is physical memory, or
    how much RAM there is (``"1G"``), which `buffer` hands out. Registers are given by the specification's names.
    ``iotlb`` None: every access walks. ``walk_cache_entries`` 0: no partial walks are kept.

    Nobody programs the hardware until the first `add_device`, which lets the driver's host side bring it up. A machine
    without that is programmed by hand. Tables are memory: whoever changes them must invalidate, by commands or by
    `translator`, as on real hardware. Faults are written down as the hardware's registers say.

    ``on_interrupt`` is called for each interrupt (or is an eventfd, to which each adds one), ``observers`` for what
    happens on the control path (a name and its facts). ``sanitize``: hold every use of a cache against the tables
    (`sanitizer`); slow. ``policy``: where the machine is to be ahead of mainline; ``uapi``: of which Linux release its
    iommufd is (`viommu.uapi_profiles`).

    Raises UnknownDriver, BrokenDriver, BadRegister, DriverBug, BadValue or OutOfRange (a size).
    """

    def __init__(
        self,
        driver: str | BoundDriver,
        memory: PhysicalMemory | str | int | None = None,
        registers: Registers | Mapping[str, int] | None = None,
        *,
        iotlb: Iotlb | None = None,
        walk_cache_entries: int = 0,
        wrappers: Iterable[object] = (),
        on_interrupt: Callable[[Interrupt], None] | int | None = None,
        observers: Iterable[Observer] = (),
        sanitize: bool = False,
        policy: Policy = MAINLINE,
        uapi: str = NEWEST,
    ) -> None:
        self.activity = Activity()
        self.watch = RegisterWatch()
        size = size_of(memory) if isinstance(memory, str | int) else None
        whole = memory if isinstance(memory, PhysicalMemory) else PhysicalMemory()
        super().__init__(
            driver if isinstance(driver, BoundDriver) else drivers.bind(driver, wrappers),
            whole,
            registers,
            iotlb=iotlb,
            walk_cache_entries=walk_cache_entries,
            on_interrupt=on_interrupt,
            observers=(*observers, self.activity.observe, self.watch.observe),
            sanitize=sanitize,
        )
        self.policy = policy
        self.profile = Profile(uapi)
        self.iommus: list[Iommu] = [self]
        self.endpoints: list[Endpoint] = []
        self._ram = None if size is None else Ram(whole, size)
        self._hosts: dict[int, PhysicalIommu] = {}  # by place in `iommus`
        self._files: list[IommuFd] = []
        self._open: list[Iommufd] = []
        self._lock = RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(iommu.name for iommu in self.iommus)
        return f"<Machine with {names}; {len(self.endpoints)} devices>"

    # --- what it is made of

    def buffer(self, size: str | int) -> NDArray[np.uint8]:
        """Give zeroed RAM, page-aligned and physically contiguous: a program's memory, or a guest's.

        Raises OutOfRange where no RAM is left, BadValue (a size).
        """
        wanted = size_of(size)
        with self._lock:
            if self._ram is not None:
                return self._ram.buffer(wanted)
        return Ram(self.memory, -(-wanted // PAGE_SIZE) * PAGE_SIZE).buffer(wanted)

    def add_iommu(
        self,
        driver: str | BoundDriver | None = None,
        registers: Registers | Mapping[str, int] | None = None,
        *,
        name: str | None = None,
        iotlb: Iotlb | None = None,
        walk_cache_entries: int = 0,
        on_interrupt: Callable[[Interrupt], None] | int | None = None,
        observers: Iterable[Observer] = (),
    ) -> Iommu:
        """Add an IOMMU instance on the same memory; ``driver`` None: of the machine's own driver. Raises as Machine."""
        if driver is None or driver == self.driver.info.name:
            driver = self.driver  # one driver: a domain of one of its IOMMUs may serve another
        elif isinstance(driver, str):
            driver = drivers.bind(driver)
        made = Iommu(
            driver,
            self.memory,
            registers,
            iotlb=iotlb,
            walk_cache_entries=walk_cache_entries,
            on_interrupt=on_interrupt,
            observers=(*observers, self.activity.observe, self.watch.observe),
            name=name or f"{driver.info.name} {len(self.iommus)}",
        )
        self.iommus.append(made)
        return made

    def add_device(
        self,
        requester: int,
        *,
        iommu: Iommu | None = None,
        name: str | None = None,
        beside: Endpoint | None = None,
        ats: bool = False,
        page_requests: bool = False,
        pasid_bits: int = 0,
        pasid_exec: bool = False,
        pasid_privileged: bool = False,
        stalls: bool = False,
    ) -> Endpoint:
        """Put a device behind an IOMMU (None: the first), whose host driver is brought up if it is not yet.

        ``beside``: a device of the same IOMMU that hardware cannot tell from it: both are attached together. The rest
        says what the device itself can (`viommu.ops.DeviceFeatures`).

        Raises OutOfRange (requester), Busy (requester taken), KernelError (what the driver refuses), DriverBug.
        """
        features = DeviceFeatures(ats, page_requests, pasid_bits, pasid_exec, pasid_privileged, stalls)
        owner = self if iommu is None else iommu
        host = self.host(owner)
        if beside is not None and beside.physical.iommu is not host:
            raise BadValue("device beside", beside.physical.name, f"behind {owner.name}, as the new one is")
        group = None if beside is None else beside.physical.group
        made = Endpoint.add(owner, host, requester, features, group, name)
        self.endpoints.append(made)
        return made

    def remove_device(self, endpoint: Endpoint) -> None:
        """Take a device from the machine. Raises Busy while an open file owns it."""
        endpoint.remove()
        self.endpoints.remove(endpoint)

    def host(self, iommu: Iommu | None = None) -> PhysicalIommu:
        """Give an IOMMU as its host driver has it, which is brought up if it is not yet.

        Raises KernelError (what the driver refuses), BadValue (an IOMMU of another machine), DriverBug.
        """
        wanted = self if iommu is None else iommu
        if wanted not in self.iommus:
            raise BadValue("IOMMU", wanted.name, "one of this machine")
        place = self.iommus.index(wanted)
        with self._lock:
            if place not in self._hosts:
                self._hosts[place] = bring_up(self.iommus[place], self._frames, self.policy, self.activity, self.watch)
            return self._hosts[place]

    @cached_property
    def _frames(self) -> TableFrames:
        """Where host drivers get memory for tables and queues."""
        return TableFrames(self.memory)

    def create_vm(self, vmid: int) -> VirtualMachine:
        """Make a virtual machine whose VMID KVM has pinned; its fd is what `process.install` gives."""
        return VirtualMachine(vmid)

    def broadcast_tlbi(self, message: TlbBroadcast) -> None:
        """Let a CPU of the machine invalidate TLBs everywhere: every IOMMU that listens hears it. Raises DriverBug."""
        for iommu in self.iommus:
            iommu.broadcast(message)

    # --- who uses it

    @cached_property
    def process(self) -> LocalProcess:
        """This process, as one that makes ioctls on the machine."""
        return LocalProcess(self.memory)

    def open_file(self, *, vfio: bool = False) -> IommuFd:
        """Open /dev/iommu (``vfio``: /dev/vfio/vfio), for ioctls by number and address; `process` may make them."""
        file = self._opened(vfio=vfio)
        self._files.append(file)
        return file

    def open_iommufd(self) -> Iommufd:
        """Open /dev/iommu, for Python."""
        file = self._opened()
        made = Iommufd(file, self.process, self._open.remove)
        self._open.append(made)
        return made

    def summary(self) -> Summary:
        """Say what happened so far, and what it would have cost where the driver knows. Raises DriverBug."""
        return Summary.of(self.activity, self.iommus)

    def _opened(self, *, vfio: bool = False) -> IommuFd:
        ioctls = self.driver.ask("viommu_ioctls") or ()
        return IommuFd(ioctls, vfio=vfio, policy=self.policy, profile=self.profile, activity=self.activity)

    def close(self) -> None:
        """Close what is open."""
        for iommufd in tuple(self._open):
            iommufd.close()
        while self._files:
            self._files.pop().release()
        self.watch.close()
