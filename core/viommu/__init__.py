"""Vendor IOMMU hardware that you can pip install.

The public names live in the modules of this package and are fetched from there at first use, so that
``from viommu import hookimpl`` costs a plugin nothing but pluggy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viommu._engine import Iotlb, Translator
    from viommu.captures.capture import Capture
    from viommu.drivers import bind, discover
    from viommu.errors import ViommuError
    from viommu.explain import Explanation
    from viommu.faults import Access, Fault, FaultClass, FaultKind, Refusal, Report, Stage
    from viommu.headers import get_include
    from viommu.hookspecs import HOOKSPEC_VERSION, DriverInfo, HardwareModel, Registers, hookimpl
    from viommu.machine import BusAbort, CopyStopped, Machine
    from viommu.memory import PhysicalMemory
    from viommu.policies import Policy
    from viommu.translation import Translation, Translations

_HOMES = {
    "Access": "faults",
    "BusAbort": "machine",
    "Capture": "captures.capture",
    "CopyStopped": "machine",
    "DriverInfo": "hookspecs",
    "Explanation": "explain",
    "Fault": "faults",
    "FaultClass": "faults",
    "FaultKind": "faults",
    "HOOKSPEC_VERSION": "hookspecs",
    "HardwareModel": "hookspecs",
    "Iotlb": "_engine",
    "Machine": "machine",
    "PhysicalMemory": "memory",
    "Policy": "policies",
    "Refusal": "faults",
    "Registers": "hookspecs",
    "Report": "faults",
    "Stage": "faults",
    "Translation": "translation",
    "Translations": "translation",
    "Translator": "_engine",
    "ViommuError": "errors",
    "bind": "drivers",
    "discover": "drivers",
    "get_include": "headers",
    "hookimpl": "hookspecs",
}

__all__ = [
    "HOOKSPEC_VERSION",
    "Access",
    "BusAbort",
    "Capture",
    "CopyStopped",
    "DriverInfo",
    "Explanation",
    "Fault",
    "FaultClass",
    "FaultKind",
    "HardwareModel",
    "Iotlb",
    "Machine",
    "PhysicalMemory",
    "Policy",
    "Refusal",
    "Registers",
    "Report",
    "Stage",
    "Translation",
    "Translations",
    "Translator",
    "ViommuError",
    "bind",
    "discover",
    "get_include",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if name == "_engine":
        return _imported("viommu._engine")
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_imported(f"viommu.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _imported(module: str) -> object:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "viommu._engine":
            raise
        raise ImportError(
            "the compiled engine viommu._engine is missing: install viommu with pip (`pip install .` in a checkout, "
            "which needs a C++20 compiler), or run `make setup`",
            name="viommu._engine",
        ) from None
