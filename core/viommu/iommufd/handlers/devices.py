"""GET_HW_INFO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.handlers.checks import refuse_flags, refuse_reserved
from viommu.iommufd.uapi import HwCapabilities, HwInfoFlags
from viommu.iommufd.uapi_types import HwInfoType
from viommu.kernel_errors import BadAddress, Unsupported
from viommu.objects.device import find_device
from viommu.ops import HwInfo
from viommu.uapi_profiles import Feature

if TYPE_CHECKING:
    from viommu.iommufd import uapi
    from viommu.iommufd.dispatch import Call
    from viommu.objects.physical import PhysicalDevice
    from viommu.ops import DeviceFacts
    from viommu.uapi_profiles import Profile

STEP = 1 << 16
NOTHING = HwInfo(0, b"")


def hw_info(call: Call[uapi.HwInfo]) -> None:
    """GET_HW_INFO: the registers that stand behind a device, and what it can do."""
    cmd = call.cmd
    profile = call.context.profile
    refuse_flags(cmd, 0 if profile.lacks(Feature.HW_INFO_INPUT_TYPE) else HwInfoFlags.INPUT_TYPE)
    refuse_reserved(cmd)
    if profile.lacks(Feature.HW_INFO_PASID) and cmd.out_max_pasid_log2:
        raise Unsupported(cmd.kernel_name, "__reserved", cmd.out_max_pasid_log2, "0")
    if not cmd.flags & HwInfoFlags.INPUT_TYPE:
        cmd.data_type = 0
    device = find_device(call.context, cmd.dev_id).physical
    info = _asked(device, cmd.data_type)
    if info.type == HwInfoType.AMD and profile.lacks(Feature.HW_INFO_AMD):
        info = NOTHING
    _copy_out(call, info.data)
    cmd.data_len, cmd.data_type = len(info.data), info.type
    facts = device.facts
    cmd.out_capabilities = _capabilities(facts) & _known_capabilities(profile)
    cmd.out_max_pasid_log2 = max(facts.max_pasids, 1).bit_length() - 1
    if profile.lacks(Feature.HW_INFO_PASID):
        cmd.out_max_pasid_log2 = 0


def _asked(device: PhysicalDevice, data_type: int) -> HwInfo:
    driver = device.iommu.driver
    if driver.implements("viommu_hw_info"):
        info: HwInfo = driver.call("viommu_hw_info", device=device, data_type=data_type)
        return info
    if data_type:
        raise Unsupported("GET_HW_INFO", "in_data_type", data_type, "0, for the driver shows nothing")
    return NOTHING


def _copy_out(call: Call[uapi.HwInfo], data: bytes) -> None:
    """Copy what there is room for, and zeros after it."""
    cmd = call.cmd
    if not cmd.data_len:
        return
    _write(call, cmd.data_uptr, data[: cmd.data_len])
    for at in range(len(data), cmd.data_len, STEP):
        _write(call, cmd.data_uptr + at, bytes(min(STEP, cmd.data_len - at)))


def _write(call: Call[uapi.HwInfo], address: int, data: bytes) -> None:
    if not call.process.write(address, data):
        raise BadAddress(call.cmd.kernel_name, "data_uptr", address, f"{len(data):#x} writable bytes")


def _known_capabilities(profile: Profile) -> int:
    known = HwCapabilities.DIRTY_TRACKING
    if not profile.lacks(Feature.HW_INFO_PASID):
        known |= HwCapabilities.PASID_EXEC | HwCapabilities.PASID_PRIV
    if not profile.lacks(Feature.HW_INFO_ATS):
        known |= HwCapabilities.ATS_NOT_SUPPORTED
    return known


def _capabilities(facts: DeviceFacts) -> int:
    found = HwCapabilities(0) if facts.ats else HwCapabilities.ATS_NOT_SUPPORTED
    if facts.dirty_tracking:
        found |= HwCapabilities.DIRTY_TRACKING
    if facts.pasid_exec:
        found |= HwCapabilities.PASID_EXEC
    if facts.pasid_privileged:
        found |= HwCapabilities.PASID_PRIV
    return found
