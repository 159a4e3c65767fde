"""What a store to a register sets off. A register that has no reaction is looked at when it is needed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.registers import CR0

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.registers import Store
    from viommu_smmuv3_cmdqv.hardware.live import Smmuv3


def _cr0(smmu: Smmuv3, store: Store) -> None:
    smmu.chip.registers["CR0ACK"] = store.after
    _reconfigure(smmu, store, forget=bool(store.changed & int(CR0(SMMUEN=1))))
    smmu.events.flush()
    smmu.commands.drain()


def _irq_ctrl(smmu: Smmuv3, store: Store) -> None:
    smmu.chip.registers["IRQ_CTRLACK"] = store.after


def _gbpa(smmu: Smmuv3, store: Store) -> None:
    _reconfigure(smmu, store, forget=not smmu.chip.features.cr0.SMMUEN)


def _structures(smmu: Smmuv3, store: Store) -> None:
    _reconfigure(smmu, store, forget=False)


def _reconfigure(smmu: Smmuv3, store: Store, *, forget: bool) -> None:
    """Take over what software wrote. Bypass is a Context like others, so it must be forgotten when it ends."""
    smmu.chip.refresh()
    smmu.commands.reconfigured()
    if forget:
        smmu.chip.platform.caches.invalidate_contexts()
    if store.changed:
        smmu.chip.platform.observe("smmuv3.register", {"name": store.name, "value": store.after})


def _commands(smmu: Smmuv3, _: Store) -> None:
    smmu.commands.drain()


def _events(smmu: Smmuv3, _: Store) -> None:
    smmu.events.flush()


def _acknowledged(smmu: Smmuv3, _: Store) -> None:
    smmu.events.flush()
    smmu.commands.drain()


REACTIONS: Mapping[str, Callable[[Smmuv3, Store], None]] = MappingProxyType(
    {
        "CR0": _cr0,
        "CR2": _structures,
        "IRQ_CTRL": _irq_ctrl,
        "GBPA": _gbpa,
        "GERRORN": _acknowledged,
        "STRTAB_BASE": _structures,
        "STRTAB_BASE_CFG": _structures,
        "CMDQ_PROD": _commands,
        "EVENTQ_CONS": _events,
    }
)
