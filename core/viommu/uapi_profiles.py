"""What earlier kernels lacked of the uAPI, so that a program's fallbacks can be tested without such a kernel.

One table: each row says what appeared in which release, what a kernel before it answers, and where that is known from
(a commit of Linux, and the pull request by which it came). Behaviour without a row of its own is that of 7.2.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from viommu.errors import BadValue

__all__ = [
    "Feature",
    "Profile",
]

NEWEST = "7.2"
PROFILES = ("6.13", "6.15", "6.17", NEWEST)
"""Releases that a machine can be asked to be like."""


class Feature(Enum):
    """What a row is about: an ioctl, a flag, a type, or a field that is longer."""

    VEVENTQ_ALLOC = "IOMMU_VEVENTQ_ALLOC"
    HW_QUEUE_ALLOC = "IOMMU_HW_QUEUE_ALLOC"
    HWPT_ALLOC_PASID = "IOMMU_HWPT_ALLOC, flag PASID"
    NO_FAULT_OF_PARENT = "IOMMU_HWPT_ALLOC, NEST_PARENT with FAULT_ID_VALID is refused"
    HW_INFO_PASID = "IOMMU_GET_HW_INFO, out_max_pasid_log2 and the capabilities of PASIDs"
    HW_INFO_INPUT_TYPE = "IOMMU_GET_HW_INFO, flag INPUT_TYPE"
    HW_INFO_ATS = "IOMMU_GET_HW_INFO, capability ATS_NOT_SUPPORTED"
    HW_INFO_AMD = "IOMMU_GET_HW_INFO, type AMD"
    VIOMMU_DATA = "IOMMU_VIOMMU_ALLOC, data_len and data_uptr"
    VIOMMU_TEGRA241 = "IOMMU_VIOMMU_ALLOC, type TEGRA241_CMDQV"
    HWPT_DATA_AMD = "IOMMU_HWPT_ALLOC, data type AMD_GUEST"
    MAP_DMA_BUF = "IOMMU_IOAS_MAP_FILE, a dma-buf"


@frozen
class Row:
    """``since``: the first release that has it. ``earlier``: what kernels before answer."""

    feature: Feature
    since: str
    earlier: str
    source: str


ROWS = (
    Row(Feature.VEVENTQ_ALLOC, "6.15", "ENOTTY", "pull request iommufd 6.15 (vEVENTQ)"),
    Row(Feature.HW_QUEUE_ALLOC, "6.17", "ENOTTY", "2238ddc2b056, pull request iommufd 6.17"),
    Row(Feature.HWPT_ALLOC_PASID, "6.15", "EOPNOTSUPP", "dbc5f37b4f8a, pull request iommufd 6.15"),
    Row(Feature.NO_FAULT_OF_PARENT, "6.15", "0: such a HWPT is made", "pull request iommufd 6.15"),
    Row(
        Feature.HW_INFO_PASID,
        "6.15",
        "0; EOPNOTSUPP where its byte, reserved then, is not 0",
        "5be549351660, pull request iommufd 6.15",
    ),
    Row(Feature.HW_INFO_INPUT_TYPE, "6.17", "EOPNOTSUPP", "5ecdb2f25114, pull request iommufd 6.17"),
    Row(Feature.HW_INFO_ATS, "7.2", "0", "a11661a58c06, of the iommu tree; inferred to be later than 6.19"),
    Row(
        Feature.HW_INFO_AMD,
        "7.2",
        "type 0, no data",
        "the driver's hw_info; inferred: posted on 2025-09-26, after 6.17",
    ),
    Row(
        Feature.VIOMMU_DATA,
        "6.17",
        "E2BIG where they are not 0: the structure has 24 bytes",
        "pull request iommufd 6.17 (driver-specific user data for a vIOMMU object)",
    ),
    Row(Feature.VIOMMU_TEGRA241, "6.17", "EOPNOTSUPP", "pull request iommufd 6.17 (cmdqv user-space use)"),
    Row(
        Feature.HWPT_DATA_AMD,
        "7.2",
        "EOPNOTSUPP",
        "nested domains of the AMD driver; inferred: posted on 2025-10-21, after 6.17",
    ),
    Row(Feature.MAP_DMA_BUF, "6.19", "EINVAL", "44ebaa1744fd, pull request iommufd 6.19"),
)
"""``7.2`` says that 7.2 has it and no profile before it does, not that it was the first."""


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


@frozen
class Profile:
    """The uAPI of one release."""

    name: str = NEWEST
    missing: frozenset[Feature] = field(init=False, repr=False)

    @missing.default
    def _missing(self) -> frozenset[Feature]:
        if self.name not in PROFILES:
            raise BadValue("uapi", self.name, f"one of {', '.join(PROFILES)}")
        return frozenset(row.feature for row in ROWS if _release(row.since) > _release(self.name))

    def lacks(self, feature: Feature) -> bool:
        """Say whether a kernel of this release has not got it."""
        return feature in self.missing


CURRENT = Profile()
