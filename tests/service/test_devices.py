"""Programs own devices behind each vendor's IOMMU."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from viommu import Machine
from viommu.errors import BadValue
from viommu.service.run import served
from viommu.vfio.catalogue import models
from viommu.vfio.devices import Devices, Plug

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def ran(driver: str, plug: str, *program: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program that finds one device."""
    with Machine(driver) as machine:
        devices = Devices(machine)
        devices.add(Plug.parse(plug))
        with served(machine, devices) as found:
            words = [str(word) for word in program]
            environment = {**os.environ, **found}
            return subprocess.run(words, env=environment, text=True, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("driver", ["vtd", "smmuv3_cmdqv", "amd_viommu"])
@pytest.mark.parametrize("options", ["", ",delay=2"])
@pytest.mark.parametrize("way", [(), ("mapped",)])
def test_a_program_drives_edu(client: Callable[[str], Path], driver: str, options: str, way: tuple[str, ...]) -> None:
    done = ran(driver, f"edu@00:10.0{options}", client("edu"), "0000:00:10.0", *way)
    assert (done.returncode, done.stderr) == (0, "")


def test_registers_are_accessed_by_any_instruction_thread_and_handler(client: Callable[[str], Path]) -> None:
    done = ran("vtd", "edu@00:10.0", client("registers"), "0000:00:10.0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("driver", ["vtd", "smmuv3_cmdqv", "amd_viommu"])
def test_a_program_that_knows_no_iommufd_owns_its_group(client: Callable[[str], Path], driver: str) -> None:
    done = ran(driver, "edu@00:10.0", client("group"), "0000:00:10.0")
    assert (done.returncode, done.stderr) == (0, "")


def test_sysfs_shows_the_device() -> None:
    look = "cd /sys/bus/pci/devices/0000:00:10.0 && pwd && cat vendor device class && ls vfio-dev /dev/vfio/devices"
    done = ran("vtd", "edu@00:10.0", "sh", "-c", f"{look} && readlink -f $PWD/driver $PWD/iommu_group")
    assert done.stdout.split() == [
        "/sys/bus/pci/devices/0000:00:10.0",
        "0x1234",
        "0x11e8",
        "0x00ff00",
        *("/dev/vfio/devices:", "vfio0", "vfio-dev:", "vfio0"),
        "/sys/bus/pci/drivers/vfio-pci",
        "/sys/kernel/iommu_groups/0",
    ]


def test_sysfs_links_devices_groups_iommus_and_modules_as_a_kernel_does() -> None:
    look = (
        "cd /sys/bus/pci/devices/0000:00:10.0; realpath . driver/module subsystem iommu iommu_group/devices/*"
        " vfio-dev/vfio0/device /sys/class/vfio-dev/vfio0; cat iommu_group/reserved_regions modalias;"
        " stat -c %t:%T /dev/vfio/devices/vfio0 /dev/char/$(cat vfio-dev/vfio0/dev)"
    )
    done = ran("smmuv3_cmdqv", "edu@00:10.0", "sh", "-c", look)
    device = "/sys/devices/pci0000:00/0000:00:10.0"
    assert done.stdout.splitlines() == [
        device,
        "/sys/module/vfio_pci",
        "/sys/bus/pci",
        "/sys/devices/virtual/iommu/iommu0",
        device,
        device,
        f"{device}/vfio-dev/vfio0",
        "0x0000000008000000 0x00000000080fffff msi",
        "pci:v00001234d000011E8sv00000000sd00000000bc00scFFi00",
        *("1ff:0", "1ff:0"),
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("edu", "MODEL@BDF"),
        ("edu@00:40.0", "MODEL@BDF"),
        ("nothing@00:10.0", "one of:"),
        ("edu@00:10.0,colour=red", "one of: delay, dma_mask"),
        ("edu@00:10.0,delay=slow", "a number"),
    ],
)
def test_what_is_wrong_with_a_device_is_said(written: str, said: str) -> None:
    with Machine("vtd") as machine, pytest.raises(BadValue, match=said):
        Devices(machine).add(Plug.parse(written))


def test_models_are_found_by_their_entry_points() -> None:
    assert "edu" in models()
