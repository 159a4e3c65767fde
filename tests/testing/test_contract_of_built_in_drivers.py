"""The three drivers keep the whole contract; their guest kits are the installed ones."""

from __future__ import annotations

from viommu.testing import DriverContract


class TestVtd(DriverContract):
    driver = "vtd"


class TestSmmuv3(DriverContract):
    driver = "smmuv3_cmdqv"


class TestAmd(DriverContract):
    driver = "amd_viommu"
