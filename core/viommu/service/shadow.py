"""Folders that programs look into to find devices: what sysfs and /dev would show, as real files elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from viommu.vfio.devices import Devices
    from viommu.vfio.function import Function

CONFIG_BYTES = 256


def make_shadow(folder: Path, devices: Devices) -> None:
    """Write the tree below ``folder``: paths there are those that programs use."""
    for node in ("dev/vfio/devices", "sys/bus/pci/devices", "sys/bus/pci/drivers/vfio-pci", "sys/kernel/iommu_groups"):
        (folder / node).mkdir(parents=True, exist_ok=True)
    (folder / "dev/iommu").touch()
    (folder / "dev/vfio/vfio").touch()
    for number, function in enumerate(devices):
        _make_device(folder, number, function)


def _make_device(folder: Path, number: int, function: Function) -> None:
    (folder / f"dev/vfio/devices/vfio{number}").touch()
    (folder / f"dev/vfio/{number}").touch()
    group = folder / f"sys/kernel/iommu_groups/{number}/devices"
    group.mkdir(parents=True)
    device = folder / "sys/bus/pci/devices" / function.name
    node = device / "vfio-dev" / f"vfio{number}"
    node.mkdir(parents=True)
    (node / "dev").write_text(f"511:{number}\n", encoding="ascii")
    identity = function.model.shape.identity
    for name, value, digits in (
        ("vendor", identity.vendor, 4),
        ("device", identity.device, 4),
        ("subsystem_vendor", identity.subsystem_vendor, 4),
        ("subsystem_device", identity.subsystem, 4),
        ("class", identity.class_code, 6),
        ("revision", identity.revision, 2),
    ):
        (device / name).write_text(f"0x{value:0{digits}x}\n", encoding="ascii")
    (device / "numa_node").write_text("-1\n", encoding="ascii")
    (device / "resource").write_text(_resources(function), encoding="ascii")
    (device / "config").write_bytes(function.config.read(0, CONFIG_BYTES))
    (device / "driver").symlink_to("../../drivers/vfio-pci")
    (device / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{number}")
    (group / function.name).symlink_to(f"../../../../bus/pci/devices/{function.name}")


def _resources(function: Function) -> str:
    """Give the lines of BARs and ROM: start, end, flags; places are not used by anybody."""
    lines = []
    for index in range(7):
        bar = function.bars.get(index)
        start = 0 if bar is None else 0xE000_0000 + (index << 24)
        end = 0 if bar is None else start + bar.size - 1
        flags = 0 if bar is None else 0x0010_2200 if bar.wide else 0x0004_0200
        lines.append(f"0x{start:016x} 0x{end:016x} 0x{flags:016x}\n")
    return "".join(lines)
