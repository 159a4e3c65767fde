"""An NVMe controller with one namespace: admin and I/O queues, identify, read, write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.errors import BadValue, OutOfRange
from viommu.models.nvme.controller import Controller
from viommu.models.nvme.namespace import BLOCK, Namespace
from viommu.modelspecs import ModelInfo, modelimpl
from viommu.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.modelspecs import Bus, DeviceModel

LARGEST = 1 << 40


@modelimpl
def viommu_model_info() -> ModelInfo:
    """Say what it is."""
    return ModelInfo(
        name="nvme",
        title="NVMe controller with one namespace",
        options={
            "size": "of the namespace (default 64M), which is memory",
            "file": "that holds the namespace instead; it must exist",
        },
        specification="NVM Express 1.4",
    )


@modelimpl
def viommu_model(bus: Bus, options: Mapping[str, str]) -> DeviceModel:
    """Make one."""
    if "file" in options:
        if "size" in options:
            raise BadValue("option of nvme", "size", "not given beside file, which has a size")
        return Controller(bus, Namespace.of_file(options["file"]))
    size = size_of(options.get("size", "64M"))
    if not BLOCK <= size <= LARGEST or size % BLOCK:
        raise OutOfRange("size of nvme", size, LARGEST, BLOCK)
    return Controller(bus, Namespace.of_memory(size))
