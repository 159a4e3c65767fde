"""What a device's file can be asked about beyond what every file can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.iommufd.argsz import copied_in
from viommu.kernel_errors import Invalid, NotAnIoctl
from viommu.vfio.uapi import FEATURE_MASK, Feature, FeatureFlags, FeatureNumber

if TYPE_CHECKING:
    from viommu.iommufd.user_memory import UserProcess
    from viommu.vfio.function import Function


def use_feature(function: Function, process: UserProcess, address: int) -> int:
    """Answer FEATURE. Raises Invalid, NotAnIoctl (a feature that there is not), BadAddress."""
    asked = copied_in(Feature, process, address)
    both = FeatureFlags.GET | FeatureFlags.SET
    chosen = FeatureFlags(asked.flags & both)
    if asked.flags & ~(FEATURE_MASK | int(both) | int(FeatureFlags.PROBE)):
        raise Invalid(asked.kernel_name, "flags", asked.flags, "GET, SET or PROBE")
    probes = bool(asked.flags & FeatureFlags.PROBE)
    if chosen == both and not probes:
        raise Invalid(asked.kernel_name, "flags", asked.flags, "GET or SET")
    feature = asked.flags & FEATURE_MASK
    if feature not in {FeatureNumber.LOW_POWER_ENTRY, FeatureNumber.LOW_POWER_EXIT}:
        raise NotAnIoctl(asked.kernel_name, "feature", feature, "one that it has")
    if chosen & FeatureFlags.GET or not (chosen or probes):
        raise Invalid(asked.kernel_name, "flags", asked.flags, "SET, or PROBE")
    if not probes:
        function.rest(rests=feature == FeatureNumber.LOW_POWER_ENTRY)
    return 0
