"""What registers of a CMDQV say, and the messages of its driver, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import Decoded
from viommu_smmuv3_cmdqv.explain.registers import COMMAND_ERRORS
from viommu_smmuv3_cmdqv.explain.words import complaints_of, fields_set, first_sentence
from viommu_smmuv3_cmdqv.spec.cmdqv_messages import CmdqvErrorMaps, VcmdqState
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import (
    CMDQV_CMDQ_ERR_MAP,
    CMDQV_PARAM,
    LVCMDQ_ERR_MAP,
    VCMDQ_BASE,
    VCMDQ_CONS_INDX,
    VCMDQ_GERROR,
    VINTF_ERR_MAP,
    VINTF_INT_MASK,
    VcmdqError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

QUEUE_ERRORS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    VcmdqError.CERROR_ILL_OPCODE: (
        "the command at RD is none that this SMMU has (CERROR_ILL_OPCODE)",
        ("a reserved opcode or value", "the ring was overwritten, or never written back to where the SMMU reads it"),
    ),
    VcmdqError.CERROR_ABT: (
        "the command at RD could not be read (CERROR_ABT)",
        ("VCMDQ_BASE points to where no memory is",),
    ),
    VcmdqError.CERROR_ATC_INV_SYNC: COMMAND_ERRORS[VcmdqError.CERROR_ATC_INV_SYNC],
    VcmdqError.CERROR_ILL_ACCESS: (
        "the queue's owner may not use the command at RD (CERROR_ILL_ACCESS)",
        (
            "a VINTF without HYP_OWN takes TLBI_NH_ASID, TLBI_NH_VA, ATC_INV and SYNC alone",
            "an ATC_INV for a stream that no SID_MATCH register maps",
        ),
    ),
}
GLOBAL_ERRORS: Mapping[str, str] = {
    "CMDQ_ERR": "the queue stopped: VCMDQ_CONS_INDX.ERR says why",
    "CONS_DRAM_WR_ABT_ERR": "the copy of CONS_INDX could not be written: VCMDQ_CONS_INDX_BASE is wrong",
    "CMDQ_INIT_ERR": "the queue could not be set up: VCMDQ_BASE is wrong, or larger than the SMMU's queues may be",
}
MAPS = (VINTF_ERR_MAP, VINTF_INT_MASK, CMDQV_CMDQ_ERR_MAP, LVCMDQ_ERR_MAP)


def decode_cmdqv_register(layout: type[Descriptor], raw: bytes) -> Decoded:
    """Explain the value of a register."""
    value = layout.decode(raw)
    meaning, causes = _meaning(value), tuple(_causes(value))
    if isinstance(value, VCMDQ_CONS_INDX) and value.ERR in QUEUE_ERRORS:
        meaning, causes = QUEUE_ERRORS[value.ERR]
        meaning = f"{meaning}; it counts while VCMDQ_GERROR.CMDQ_ERR is active"
    return Decoded(layout.__name__.lower(), layout.__name__, value, meaning, tuple(complaints_of(value)), causes)


def decode_error_maps(raw: bytes) -> Decoded:
    """Explain the message of a CMDQV that reports errors."""
    maps = CmdqvErrorMaps.decode(raw)
    queues = int(maps) >> 64
    meaning = f"errors of VINTFs {_numbers(maps.VINTF_ERR_MAP)}, of VCMDQs {_numbers(queues)}"
    causes = (
        "a command that the queue's owner may not use (only TLBI_NH_ASID, TLBI_NH_VA, ATC_INV and SYNC in a VM)",
        "a stream that no SID_MATCH register maps",
        "a queue whose memory cannot be read",
    )
    return Decoded("cmdqv-error-maps", "CMDQV errors", maps, meaning, causes=causes)


def decode_vcmdq_state(raw: bytes) -> Decoded:
    """Explain the message of a VCMDQ that could not be switched."""
    state = VcmdqState.decode(raw)
    active = state.GERROR ^ state.GERRORN
    told = QUEUE_ERRORS.get(state.ERR) if active & 1 else None
    meaning = f"a VCMDQ was not switched in time; its active errors are {active:#x}"
    complaints = tuple(complaints_of(state))
    if told is None:
        return Decoded("vcmdq-state", "VCMDQ state", state, meaning, complaints)
    return Decoded("vcmdq-state", "VCMDQ state", state, f"{meaning}: {told[0]}", complaints, told[1])


def _meaning(value: Descriptor) -> str:
    told = first_sentence(type(value))
    if isinstance(value, MAPS):
        return f"{told}: {_numbers(int(value))}"
    if isinstance(value, CMDQV_PARAM):
        vintfs, queues = 1 << value.NUM_VINTF_LOG2, 1 << value.NUM_VCMDQ_LOG2
        return f"{told}: {vintfs} VINTFs, {queues} VCMDQs, {1 << value.NUM_SID_PER_VM_LOG2} streams each VINTF"
    if isinstance(value, VCMDQ_BASE):
        return f"{told}: {1 << value.LOG2SIZE} commands at {value.ADDR:#x}"
    return f"{told}: {fields_set(value)}"


def _causes(value: Descriptor) -> list[str]:
    if type(value) is not VCMDQ_GERROR:
        return []
    return [told for name, told in GLOBAL_ERRORS.items() if getattr(value, name)]


def _numbers(bits: int) -> str:
    return ", ".join(str(bit) for bit in range(bits.bit_length()) if bits >> bit & 1) or "none"
