"""What a machine lacks that is like an earlier kernel: each row of the table, before and since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from attrs import evolve

from tests.api.selftest_machine import APERTURE, DATA, EVENTS, NESTED, QUEUE, VIOMMU, Setup
from viommu import Machine, hookimpl
from viommu.drivers import bind
from viommu.errors import BadValue
from viommu.iommufd import uapi
from viommu.iommufd.uapi import HwCapabilities, HwptFlags
from viommu.kernel_errors import Invalid, KernelError, NotAnIoctl, TooBig, Unsupported
from viommu.ops import DeviceFacts, HwInfo
from viommu.selftest.dma_buf import MockDmaBuf
from viommu.uapi_profiles import NEWEST, PROFILES, ROWS, Feature, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Rich:
    """A wrapper that lets the mock look like hardware with everything: PASIDs of all rights, AMD's registers."""

    @hookimpl(wrapper=True)
    def viommu_device_facts(self) -> Generator[None, DeviceFacts, DeviceFacts]:
        return evolve((yield), pasid_exec=True, pasid_privileged=True)

    @hookimpl(wrapper=True)
    def viommu_hw_info(self, data_type: int) -> Generator[None, HwInfo, HwInfo]:
        try:
            usual = yield
        except Unsupported:
            usual = HwInfo(data_type, bytes(8))
        return HwInfo(4, bytes(16)) if not data_type else usual

    @hookimpl(wrapper=True)
    def viommu_supports(self) -> Generator[None, bool, bool]:
        yield
        return True


def setup_of(uapi_name: str) -> Setup:
    return Setup.make(driver=bind("selftest", [Rich()]), uapi_name=uapi_name)


def events(setup: Setup) -> None:
    setup.viommu().veventq_alloc(EVENTS)


def hw_queue(setup: Setup) -> None:
    setup.viommu().hw_queue_alloc(QUEUE, 0, APERTURE, 4096)


def pasid_hwpt(setup: Setup) -> None:
    setup.ioas.hwpt_alloc(setup.device, pasid=True)


def nested_pasid(setup: Setup) -> None:
    setup.viommu().hwpt_alloc(setup.device, NESTED, data_type=DATA, pasid=True)


def input_type(setup: Setup) -> None:
    setup.device.hw_info(0xFEEDBEEF)


def viommu_data(setup: Setup) -> None:
    setup.parent.viommu_alloc(setup.device, VIOMMU, bytes(24))


def tegra(setup: Setup) -> None:
    setup.parent.viommu_alloc(setup.device, 2)


def dma_buf(setup: Setup) -> None:
    fd = setup.machine.process.install(MockDmaBuf(4096))
    setup.iommu.call(uapi.IoasMapFile.of(flags=6, ioas_id=setup.ioas.id, fd=fd, length=4096))


def amd_guest(setup: Setup) -> None:
    try:
        setup.parent.hwpt_alloc(setup.device, uapi.HwptAmdGuest.of())
    except Unsupported as error:
        if "that the driver knows" in str(error):
            raise
        # the mock itself has no such type


REFUSALS: list[tuple[Feature, Callable[[Setup], None], type[KernelError]]] = [
    (Feature.VEVENTQ_ALLOC, events, NotAnIoctl),
    (Feature.HW_QUEUE_ALLOC, hw_queue, NotAnIoctl),
    (Feature.HWPT_ALLOC_PASID, pasid_hwpt, Unsupported),
    (Feature.HWPT_ALLOC_PASID, nested_pasid, Unsupported),
    (Feature.HW_INFO_INPUT_TYPE, input_type, Unsupported),
    (Feature.VIOMMU_DATA, viommu_data, TooBig),
    (Feature.VIOMMU_TEGRA241, tegra, Unsupported),
    (Feature.MAP_DMA_BUF, dma_buf, Invalid),
    (Feature.HWPT_DATA_AMD, amd_guest, Unsupported),
]


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("feature", "call", "refusal"), REFUSALS, ids=lambda value: getattr(value, "__name__", None))
def test_what_came_later_is_refused_as_it_was(
    feature: Feature, call: Callable[[Setup], None], refusal: type[KernelError], name: str
) -> None:
    setup = setup_of(name)
    if Profile(name).lacks(feature):
        with pytest.raises(refusal):
            call(setup)
    else:
        call(setup)


@pytest.mark.parametrize("name", PROFILES)
def test_capabilities_are_those_that_the_kernel_knows(name: str) -> None:
    setup, profile = setup_of(name), Profile(name)
    info = setup.device.hw_info()

    has_pasids = not profile.lacks(Feature.HW_INFO_PASID)
    assert info.max_pasid_lg2 == (20 if has_pasids else 0)
    assert (HwCapabilities.PASID_EXEC | HwCapabilities.PASID_PRIV in info.capabilities) is has_pasids
    assert (HwCapabilities.ATS_NOT_SUPPORTED in info.capabilities) is not profile.lacks(Feature.HW_INFO_ATS)
    assert HwCapabilities.DIRTY_TRACKING in info.capabilities
    assert (info.data_type, len(info.data)) == ((0, 0) if profile.lacks(Feature.HW_INFO_AMD) else (4, 16))


def test_a_byte_that_was_reserved_has_to_be_zero() -> None:
    for name, is_refused in (("6.13", True), ("6.15", False)):
        setup = setup_of(name)
        cmd = uapi.HwInfo.of(dev_id=setup.device.id, out_max_pasid_log2=1)
        if is_refused:
            with pytest.raises(Unsupported, match="__reserved"):
                setup.iommu.call(cmd)
        else:
            setup.iommu.call(cmd)


def test_a_parent_with_a_fault_was_made_once() -> None:
    for name, is_refused in (("6.13", False), ("6.15", True)):
        setup = setup_of(name)
        cmd = uapi.HwptAlloc.of(
            flags=HwptFlags.NEST_PARENT | HwptFlags.FAULT_ID_VALID,
            dev_id=setup.device.id,
            pt_id=setup.ioas.id,
            fault_id=setup.iommu.fault_alloc().id,
        )
        if is_refused:
            with pytest.raises(Unsupported):
                setup.iommu.call(cmd)
        else:
            setup.iommu.call(cmd)


def test_a_viommu_was_made_with_a_shorter_structure() -> None:
    setup = setup_of("6.15")
    assert setup.viommu().id
    longer = uapi.ViommuAlloc.of(type=VIOMMU, dev_id=setup.device.id, hwpt_id=setup.parent.id, reserved=1)
    with pytest.raises(TooBig):
        setup.iommu.call(longer)


def test_every_row_is_tested_and_names_its_source() -> None:
    tested = {feature for feature, _, _ in REFUSALS}
    by_hand = {Feature.HW_INFO_PASID, Feature.HW_INFO_ATS, Feature.HW_INFO_AMD, Feature.NO_FAULT_OF_PARENT}
    assert tested | by_hand == {row.feature for row in ROWS} == set(Feature)
    assert all(row.source and row.earlier for row in ROWS)


def test_a_release_that_nobody_has_described_is_refused() -> None:
    with pytest.raises(BadValue, match=r"uapi '5.4' is not one of 6\.13, 6\.15, 6\.17, 7\.2"):
        Machine("selftest", uapi="5.4")
    assert not Profile(NEWEST).missing
    assert np.all(np.diff([len(Profile(name).missing) for name in PROFILES]) < 0)
