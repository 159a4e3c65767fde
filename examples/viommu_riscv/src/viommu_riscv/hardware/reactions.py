"""What hardware does about a store to one of its registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_riscv.hardware.queues import keep_inside
from viommu_riscv.hardware.register_map import CQCSR_CLEARS, FQCSR_CLEARS, PQCSR_CLEARS
from viommu_riscv.spec.registers import Cqcsr, Ddtp, IommuMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.registers import Store

    from viommu_riscv.hardware.iommu import RiscvIommu

ENABLE, ON = Cqcsr.cqen.mask, Cqcsr.cqon.mask
"""The same bits in the registers of all three queues."""

INDICES = {"CQB": "CQT", "FQB": "FQH", "PQB": "PQH"}
"""Which index software owns in a queue."""

OWN = {"CQCSR": ("CQH", CQCSR_CLEARS), "FQCSR": ("FQT", FQCSR_CLEARS), "PQCSR": ("PQT", PQCSR_CLEARS)}
"""Which index hardware owns, and the errors of the queue."""


def react(iommu: RiscvIommu, store: Store) -> None:
    """Do what a store starts; registers that are not here are only read when they are needed."""
    reaction = REACTIONS.get(store.name)
    if reaction is not None:
        reaction(iommu, store)
    elif store.name.startswith("MSI_VEC_CTL_"):
        iommu.interrupts.unmasked(int(store.name.rpartition("_")[2]))
    iommu.interrupts.update()


def kept(store: Store) -> int:
    """Give the bits that keep their value all the same: a mode that there is not leaves the mode as it was."""
    if store.name != "DDTP" or Ddtp.decode(store.after).iommu_mode in set(IommuMode):
        return 0
    return Ddtp.iommu_mode.mask


def _mode(iommu: RiscvIommu, store: Store) -> None:
    """The store completes at once, and nothing is ever busy."""
    iommu.file.change("DDTP", clears=Ddtp.busy.mask)
    iommu.apply()
    iommu.platform.observe("riscv.mode", {"mode": IommuMode(Ddtp.decode(store.after).iommu_mode).name})


def _features(iommu: RiscvIommu, store: Store) -> None:
    del store
    iommu.apply()


def _base(iommu: RiscvIommu, store: Store) -> None:
    keep_inside(iommu.file, INDICES[store.name])


def _index(iommu: RiscvIommu, store: Store) -> None:
    keep_inside(iommu.file, store.name)


def _tail(iommu: RiscvIommu, store: Store) -> None:
    keep_inside(iommu.file, store.name)
    iommu.commands.run()


def _switch(iommu: RiscvIommu, store: Store) -> None:
    """Switch a queue on, empty and free of errors; or off."""
    index, errors = OWN[store.name]
    if store.after & ENABLE and not store.before & ENABLE:
        iommu.file[index] = 0
        iommu.file.change(store.name, sets=ON, clears=errors)
    elif not store.after & ENABLE:
        iommu.file.change(store.name, clears=ON)


def _command_queue(iommu: RiscvIommu, store: Store) -> None:
    """It goes on where software has cleared what stopped it."""
    if (store.before ^ store.after) & ENABLE:
        iommu.commands.started()
    _switch(iommu, store)
    iommu.commands.run()


REACTIONS: Mapping[str, Callable[[RiscvIommu, Store], None]] = {
    "DDTP": _mode,
    "FCTL": _features,
    "CQB": _base,
    "FQB": _base,
    "PQB": _base,
    "CQT": _tail,
    "FQH": _index,
    "PQH": _index,
    "CQCSR": _command_queue,
    "FQCSR": _switch,
    "PQCSR": _switch,
}
