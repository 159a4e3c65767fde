"""What a register's value says, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_smmuv3_cmdqv.explain.words import complaints_of, fields_set, first_sentence
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_CONS, GERROR, CommandError
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

COMMAND_ERRORS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    CommandError.CERROR_ILL: (
        "the command at RD is illegal (CERROR_ILL)",
        (
            "a command that this SMMU's IDR registers do not offer (ATC_INV without ATS, RESUME without stalls)",
            "a reserved value in the command",
            "the queue's memory was overwritten, or never written back to where the SMMU reads it",
        ),
    ),
    CommandError.CERROR_ABT: (
        "the command at RD could not be read (CERROR_ABT)",
        ("CMDQ_BASE points to where no memory is",),
    ),
    CommandError.CERROR_ATC_INV_SYNC: (
        "a device did not answer an ATC_INV before the SYNC at RD (CERROR_ATC_INV_SYNC)",
        ("the device is gone, asleep or hangs", "ATS is on in the STE but off in the device"),
    ),
}
GLOBAL_ERRORS: Mapping[str, str] = {
    "CMDQ_ERR": "the command queue stopped: CMDQ_CONS.ERR says why",
    "EVENTQ_ABT_ERR": "the event queue could not be written: EVENTQ_BASE is wrong, and events are lost",
    "PRIQ_ABT_ERR": "the PRI queue could not be written: PRIQ_BASE is wrong, and page requests are lost",
    "MSI_CMDQ_ABT_ERR": "the message of a SYNC could not be written: its MSIAddress is wrong",
    "MSI_EVENTQ_ABT_ERR": "the event queue's message could not be written: EVENTQ_IRQ_CFG0 is wrong",
    "MSI_PRIQ_ABT_ERR": "the PRI queue's message could not be written: PRIQ_IRQ_CFG0 is wrong",
    "MSI_GERROR_ABT_ERR": "the message of a global error could not be written: GERROR_IRQ_CFG0 is wrong",
    "SFM_ERR": "the SMMU is in service failure mode: it must be reset",
    "CMDQP_ERR": "a command queue of a control page (ECMDQ) stopped",
    "DPT_ERR": "the device permission table could not be read or is wrong",
}


def decode_register(name: str, raw: bytes) -> Decoded:
    """Explain a register's value; ``name`` is the specification's."""
    _, layout = REGISTERS[name]
    value = layout.decode(raw)
    meaning, causes = f"{first_sentence(layout)}: {fields_set(value)}", tuple(_causes(value))
    if isinstance(value, CMDQ_CONS) and value.ERR in COMMAND_ERRORS:
        meaning, causes = COMMAND_ERRORS[value.ERR]
        meaning = f"{meaning}; it counts while GERROR.CMDQ_ERR is active"
    return Decoded(name.lower(), name, value, meaning, tuple(complaints_of(value)), causes)


def _causes(value: Descriptor) -> list[str]:
    if type(value) is not GERROR:
        return []
    return [told for name, told in GLOBAL_ERRORS.items() if getattr(value, name)]
