"""Folders that programs look into to find devices: what sysfs and /dev would show, as real files elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.ops import RegionKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from viommu.vfio.devices import Devices
    from viommu.vfio.function import Function

CONFIG_BYTES = 256
MAJOR = 511
"""Of the character devices of VFIO's functions; a kernel takes any that is free."""

PCI = "sys/bus/pci"
DRIVER = f"{PCI}/drivers/vfio-pci"
MODULES: Mapping[str, Mapping[str, str]] = {
    "iommufd": {},
    "vfio": {"enable_unsafe_noiommu_mode": "N"},
    "vfio_iommu_type1": {"allow_unsafe_interrupts": "N", "dma_entry_limit": "65535"},
    "vfio_pci": {"disable_idle_d3": "N", "nointxmask": "N"},
}
"""Modules of the kernel, and their parameters."""

_REGION_TYPES: Mapping[RegionKind, str] = {
    RegionKind.RESERVED: "reserved",
    RegionKind.MSI: "msi",
    RegionKind.SOFTWARE_MSI: "msi",
    RegionKind.DIRECT: "direct",
    RegionKind.DIRECT_RELAXABLE: "direct-relaxable",
}


@frozen
class Tree:
    """Files below a folder, by the paths that programs use, without the first slash."""

    folder: Path

    def directory(self, path: str) -> None:
        """Make a directory, and those it lies in."""
        (self.folder / path).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: str | bytes = "") -> None:
        """Make a file: a line of text, or bytes as they are."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode("ascii") if content else b"")

    def link(self, path: str, target: str) -> None:
        """Make a link, relative as sysfs has them."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(target, os.path.dirname(path)))  # noqa: PTH120 - neither path is the machine's


def make_shadow(folder: Path, devices: Devices) -> None:
    """Write the tree below ``folder``: paths there are those that programs use."""
    tree = Tree(folder)
    for node in ("dev/vfio/devices", f"{PCI}/devices", "sys/kernel/iommu_groups", "sys/class/vfio-dev"):
        tree.directory(node)
    for node in ("dev/iommu", "dev/vfio/vfio"):
        tree.write(node)
    _make_driver(tree)
    iommus = list(dict.fromkeys(function.endpoint.physical.iommu for function in devices))
    tree.directory("sys/class/iommu")
    for number in range(len(iommus)):
        _make_iommu(tree, number)
    for number, function in enumerate(devices):
        _make_device(tree, number, function)
        _make_group(tree, number, function)
        _link_iommu(tree, iommus.index(function.endpoint.physical.iommu), function)


def _make_driver(tree: Tree) -> None:
    for module, parameters in MODULES.items():
        tree.directory(f"sys/module/{module}")
        tree.write(f"sys/module/{module}/initstate", "live")
        for name, value in parameters.items():
            tree.write(f"sys/module/{module}/parameters/{name}", value)
    for name in ("bind", "unbind", "new_id", "remove_id"):
        tree.write(f"{DRIVER}/{name}")
    tree.link(f"{DRIVER}/module", "sys/module/vfio_pci")
    tree.write(f"{PCI}/drivers_probe")


def _place(function: Function) -> str:
    """Where the kernel keeps the device itself; all else are links to it."""
    return f"sys/devices/pci{function.name[:7]}/{function.name}"


def _make_device(tree: Tree, number: int, function: Function) -> None:
    place = _place(function)
    for name, text in _attributes(function).items():
        tree.write(f"{place}/{name}", text)
    tree.write(f"{place}/resource", _resources(function))
    tree.write(f"{place}/config", function.config.read(0, CONFIG_BYTES))
    tree.link(f"{place}/driver", DRIVER)
    tree.link(f"{place}/subsystem", PCI)
    tree.link(f"{PCI}/devices/{function.name}", place)
    tree.link(f"{DRIVER}/{function.name}", place)
    node = f"vfio{number}"
    tree.write(f"dev/vfio/devices/{node}")
    tree.write(f"{place}/vfio-dev/{node}/dev", f"{MAJOR}:{number}")
    tree.write(f"{place}/vfio-dev/{node}/uevent", f"MAJOR={MAJOR}\nMINOR={number}\nDEVNAME=vfio/devices/{node}")
    tree.link(f"{place}/vfio-dev/{node}/device", place)
    tree.link(f"{place}/vfio-dev/{node}/subsystem", "sys/class/vfio-dev")
    tree.link(f"sys/class/vfio-dev/{node}", f"{place}/vfio-dev/{node}")


def _attributes(function: Function) -> Mapping[str, str]:
    """Give the files of one line or a few, by name."""
    who = function.model.shape.identity
    base, sub, interface = who.class_code >> 16, who.class_code >> 8 & 0xFF, who.class_code & 0xFF
    alias = (
        f"pci:v{who.vendor:08X}d{who.device:08X}sv{who.subsystem_vendor:08X}sd{who.subsystem:08X}"
        f"bc{base:02X}sc{sub:02X}i{interface:02X}"
    )
    event = (
        f"DRIVER=vfio-pci\nPCI_CLASS={who.class_code:X}\nPCI_ID={who.vendor:04X}:{who.device:04X}\n"
        f"PCI_SUBSYS_ID={who.subsystem_vendor:04X}:{who.subsystem:04X}\n"
        f"PCI_SLOT_NAME={function.name}\nMODALIAS={alias}"
    )
    return {
        "vendor": f"0x{who.vendor:04x}",
        "device": f"0x{who.device:04x}",
        "subsystem_vendor": f"0x{who.subsystem_vendor:04x}",
        "subsystem_device": f"0x{who.subsystem:04x}",
        "class": f"0x{who.class_code:06x}",
        "revision": f"0x{who.revision:02x}",
        "modalias": alias,
        "uevent": event,
        "driver_override": "(null)",
        "enable": "1",
        "irq": "0",
        "numa_node": "-1",
        "dma_mask_bits": "64",
    }


def _resources(function: Function) -> str:
    """Give the lines of BARs and ROM: start, end, flags; places are not used by anybody."""
    lines = []
    for index in range(7):
        bar = function.bars.get(index)
        start = 0 if bar is None else 0xE000_0000 + (index << 24)
        end = 0 if bar is None else start + bar.size - 1
        flags = 0 if bar is None else 0x0010_2200 if bar.wide else 0x0004_0200
        lines.append(f"0x{start:016x} 0x{end:016x} 0x{flags:016x}")
    return "\n".join(lines)


def _make_group(tree: Tree, number: int, function: Function) -> None:
    group = f"sys/kernel/iommu_groups/{number}"
    tree.write(f"dev/vfio/{number}")
    tree.write(f"{group}/type", "DMA")
    tree.write(f"{group}/reserved_regions", _reserved(function))
    tree.link(f"{group}/devices/{function.name}", _place(function))
    tree.link(f"{_place(function)}/iommu_group", group)


def _reserved(function: Function) -> str:
    """Give the lines of IOVAs that a device keeps for itself: start, last, why."""
    physical = function.endpoint.physical
    regions = physical.iommu.driver.ask("viommu_reserved_regions", device=physical) or ()
    ordered = sorted(regions, key=lambda region: region.start)
    return "\n".join(f"0x{each.start:016x} 0x{each.last:016x} {_REGION_TYPES[each.kind]}" for each in ordered)


def _make_iommu(tree: Tree, number: int) -> None:
    place = f"sys/devices/virtual/iommu/iommu{number}"
    tree.directory(f"{place}/devices")
    tree.link(f"{place}/subsystem", "sys/class/iommu")
    tree.link(f"sys/class/iommu/iommu{number}", place)


def _link_iommu(tree: Tree, number: int, function: Function) -> None:
    place = f"sys/devices/virtual/iommu/iommu{number}"
    tree.link(f"{place}/devices/{function.name}", _place(function))
    tree.link(f"{_place(function)}/iommu", place)
