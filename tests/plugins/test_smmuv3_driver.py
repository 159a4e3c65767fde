"""The SMMUv3 driver as it is installed: found by entry point, and what it says of itself."""

from __future__ import annotations

from importlib.metadata import entry_points

from viommu.hookspecs import ENTRY_POINT_GROUP, HOOKSPEC_VERSION
from viommu_smmuv3_cmdqv import driver


def test_the_driver_is_found_by_its_entry_point() -> None:
    (found,) = entry_points(group=ENTRY_POINT_GROUP, name="smmuv3_cmdqv")

    assert found.load() is driver
    assert driver.hookspec_version == HOOKSPEC_VERSION


def test_the_driver_says_what_its_hardware_can_be_asked() -> None:
    info = driver.viommu_driver_info()

    assert info.name == "smmuv3_cmdqv"
    assert (info.requester_bits, info.pasid_bits) == (32, 20)


def test_the_driver_offers_structures_registers_and_records_by_name() -> None:
    layouts = driver.viommu_layouts()

    assert {"STE", "CD", "L1STD", "L1CD", "IDR0", "STRTAB_BASE_CFG", "F_TRANSLATION", "C_BAD_STE"} <= set(layouts)
    assert layouts["STE"].size == layouts["CD"].size == 64
