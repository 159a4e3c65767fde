"""StreamWorlds, and the one or two halves of an address space that each has (IHI 0070, 3.3.3 and STE.STRW)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from attrs import frozen

from viommu_smmuv3_cmdqv.spec.sizes import Granule1
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig, World
from viommu_smmuv3_cmdqv.stage2_geometry import GRANULE_LG2

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
    from viommu_smmuv3_cmdqv.spec.stream_table import STE

TG1_LG2: dict[int, int] = {Granule1.KB_4: 12, Granule1.KB_16: 14, Granule1.KB_64: 16}


class StreamWorld(Enum):
    """Whose translation regime a Non-secure stream uses. NS_EL2 has one half, no ASID and one privilege."""

    NS_EL1 = "EL1"
    NS_EL2 = "EL2"
    NS_EL2_E2H = "EL2-E2H"


def world_is_selectable(ste: STE, features: Features) -> bool:
    """Whether STE.STRW counts: with stage 1 alone, and where EL2 exists."""
    return bool(ste.Config == StreamConfig.STAGE1 and features.idr0.S1P and features.idr0.HYP)


def stream_world(ste: STE, features: Features) -> StreamWorld:
    """The StreamWorld of a legal ``ste``."""
    if not world_is_selectable(ste, features) or ste.STRW != World.EL2:
        return StreamWorld.NS_EL1
    return StreamWorld.NS_EL2_E2H if features.cr2.E2H else StreamWorld.NS_EL2


@frozen
class Half:
    """What a CD says of TTB0 or TTB1. ``granule_lg2`` 0: a reserved code. ``large``: 52-bit addresses fit."""

    number: int
    table: int
    tsz: int
    granule_lg2: int
    large: bool
    top_byte_ignore: bool
    walks_disabled: bool
    unprivileged_disabled: bool
    ignore_hierarchical: bool


def halves(cd: CD, world: StreamWorld, features: Features) -> tuple[Half, ...]:
    """The halves that ``world`` has; fields of features that the SMMU lacks count as 0."""
    lower = _lower(cd, world, features)
    return (lower,) if world is StreamWorld.NS_EL2 else (lower, _upper(cd, features))


def large_52(cd: CD, features: Features) -> bool:
    """Whether 4K and 16K tables hold 52-bit addresses (DS)."""
    return bool(cd.DS and features.idr5.DS)


def _lower(cd: CD, world: StreamWorld, features: Features) -> Half:
    granule_lg2 = GRANULE_LG2.get(cd.TG0, 0)
    el2 = world is StreamWorld.NS_EL2  # where EPD0 and E0PD0 are ignored
    return Half(
        number=0,
        table=cd.TTB0,
        tsz=cd.T0SZ,
        granule_lg2=granule_lg2,
        large=granule_lg2 == 16 or large_52(cd, features),
        top_byte_ignore=bool(cd.TBI0),
        walks_disabled=bool(cd.EPD0) and not el2,
        unprivileged_disabled=bool(cd.E0PD0 and features.idr3.E0PD) and not el2,
        ignore_hierarchical=bool(cd.HAD0 and features.idr3.HAD),
    )


def _upper(cd: CD, features: Features) -> Half:
    granule_lg2 = TG1_LG2.get(cd.TG1, 0)
    return Half(
        number=1,
        table=cd.TTB1,
        tsz=cd.T1SZ,
        granule_lg2=granule_lg2,
        large=granule_lg2 == 16 or large_52(cd, features),
        top_byte_ignore=bool(cd.TBI1),
        walks_disabled=bool(cd.EPD1),
        unprivileged_disabled=bool(cd.E0PD1 and features.idr3.E0PD),
        ignore_hierarchical=bool(cd.HAD1 and features.idr3.HAD),
    )
