"""What the identification registers say: of the model itself, and of hardware whose registers were given."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.hookspecs import Registers
from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_PARAM
from viommu_smmuv3_cmdqv.spec.registers import AIDR, IDR0, IDR1, IDR3, IDR5

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPONENT_CLASS = (0x0D, 0xF0, 0x05, 0xB1)
"""CIDR0 to CIDR3 of every CoreSight component of this class."""

GRACE_CMDQV = int(CMDQV_PARAM(VER=1, NUM_VCMDQ_LOG2=7, NUM_VINTF_LOG2=6, NUM_SID_PER_VM_LOG2=4))
"""128 command queues in 64 interfaces, as a Grace has them: two for each guest, whose devices have 16 StreamIDs."""
GUEST_CMDQV = int(CMDQV_PARAM(VER=1, NUM_VCMDQ_LOG2=1, NUM_VINTF_LOG2=0, NUM_SID_PER_VM_LOG2=4))
"""What QEMU shows a guest: two queues in the one interface that there is, which is no hypervisor's."""

WHOLE_MODEL: Mapping[str, int] = MappingProxyType(
    {
        "IDR0": int(
            IDR0(
                S1P=1, S2P=1, TTF=2, COHACC=1, BTM=1, HTTU=3, HYP=1, ATS=1, NS1ATS=1, ASID16=1, MSI=1, SEV=1, PRI=1,
                VMW=1, VMID16=1, CD2L=1, ATSRECERR=1, STALL_MODEL=0, ST_LEVEL=1,
            )
        ),
        "IDR1": int(
            IDR1(SIDSIZE=32, SSIDSIZE=20, PRIQS=19, EVTQS=19, CMDQS=19, ATTR_PERMS_OVR=1, ATTR_TYPES_OVR=1)
        ),
        "IDR3": int(IDR3(HAD=1, XNX=1, FWB=1, STT=1, RIL=1, BBML=2, E0PD=1)),
        "IDR5": int(IDR5(OAS=6, GRAN4K=1, GRAN16K=1, GRAN64K=1, DS=1, VAX=1, STALL_MAX=4096)),
        "AIDR": int(AIDR(ArchMinorRev=3)),
        "CMDQV_PARAM": GRACE_CMDQV,
    }
)  # fmt: skip
"""Everything that is modelled: an SMMU whose registers say nothing of what it can do is this one."""

PRESETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "grace": WHOLE_MODEL,
        "qemu": MappingProxyType(dict(WHOLE_MODEL) | {"CMDQV_PARAM": GUEST_CMDQV}),
    }
)
"""Registers for a machine, by the CMDQV that they have: a host's, as a Grace has it; a guest's, as QEMU shows it."""

_ABSENT: Mapping[str, int] = MappingProxyType(
    {
        "IDR0": int(IDR0(DORMHINT=1, ATOS=1, VATOS=1, RME_IMPL=1)),
        "IDR1": int(IDR1(ECMDQ=1)),
        "IDR2": -1,
        "IDR3": int(IDR3(MPAM=1, DPT=1)),
        "IDR5": int(IDR5(D128=1)),
        "STATUSR": -1,
    }
)
"""What is not modelled reads as absent, whatever was given: software must not be told to use it."""


def identified(given: Registers) -> Registers:
    """Give the values with which an SMMU starts: ``given``, or the whole model's; never more than is modelled."""
    identity = {} if any(name.startswith("IDR") for name in given.values) else WHOLE_MODEL
    values = {f"CIDR{n}": value for n, value in enumerate(COMPONENT_CLASS)} | dict(identity) | dict(given.values)
    for name, absent in _ABSENT.items():
        values[name] = values.get(name, 0) & ~absent
    values.setdefault("CR0ACK", values.get("CR0", 0))
    values.setdefault("IRQ_CTRLACK", values.get("IRQ_CTRL", 0))
    return Registers(values)
