"""The conformance kit asks what every driver promises."""

from __future__ import annotations

from typing import ClassVar

from viommu.testing import DriverContract

from viommu_riscv import driver as ours


class TestRiscv(DriverContract):
    driver: ClassVar[object] = ours
