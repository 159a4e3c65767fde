"""A device for studying IOMMUs: DMA of every kind, from rings of descriptors in a program's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.errors import BadValue, OutOfRange
from viommu.models.dma_tester.device import Tester
from viommu.models.dma_tester.registers import MOST_RINGS
from viommu.modelspecs import ModelInfo, modelimpl
from viommu.ops import DeviceFeatures
from viommu.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.modelspecs import Bus, DeviceModel

MOST_PASID_BITS = 20


@modelimpl
def viommu_model_info() -> ModelInfo:
    """Say what it is."""
    return ModelInfo(
        name="dma-tester",
        title="DMA of every kind, for studying IOMMUs",
        options={
            "rings": "how many it has, 1 to 8 (default 4)",
            "pasid_bits": "the width of its PASIDs, 0 to 20 (default 20)",
            "ats": "whether it has a TLB of its own: yes or no (default yes)",
            "pri": "whether it asks for pages (default yes, with ats)",
            "privileged": "whether it sends privileged accesses (default yes, with PASIDs)",
            "execute": "whether it fetches instructions (default yes, with PASIDs)",
            "stalls": "whether its accesses may wait for software on an SMMU (default no); without ats then",
        },
        specification="docs/devices/dma-tester.md",
    )


@modelimpl
def viommu_model(bus: Bus, options: Mapping[str, str]) -> DeviceModel:
    """Make one."""
    stalls = _chosen(options, "stalls", False)
    pasid_bits = _bounded(options, "pasid_bits", 0, MOST_PASID_BITS, MOST_PASID_BITS)
    ats = _chosen(options, "ats", not stalls)
    features = DeviceFeatures(
        ats=ats,
        page_requests=_chosen(options, "pri", ats),
        pasid_bits=pasid_bits,
        pasid_exec=_chosen(options, "execute", bool(pasid_bits)),
        pasid_privileged=_chosen(options, "privileged", bool(pasid_bits)),
        stalls=stalls,
    )
    if features.page_requests and not ats:
        raise BadValue("pri of dma-tester", "yes", "with ats=yes: a device asks for pages that its own TLB lacks")
    return Tester(bus, features, _bounded(options, "rings", 1, MOST_RINGS, 4))


def _bounded(options: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    value = size_of(options.get(name, str(default)))
    if not least <= value <= most:
        raise OutOfRange(f"{name} of dma-tester", value, most, least)
    return value


def _chosen(options: Mapping[str, str], name: str, default: bool) -> bool:
    written = options.get(name, "yes" if default else "no")
    if written not in {"yes", "no"}:
        raise BadValue(f"{name} of dma-tester", written, "yes or no")
    return written == "yes"
