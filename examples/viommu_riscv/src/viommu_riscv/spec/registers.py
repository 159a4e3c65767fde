"""Memory-mapped registers (RISC-V IOMMU 1.0, "Memory-mapped register interface")."""

from __future__ import annotations

from enum import IntEnum

from viommu.layout import Bit, Bits, Descriptor, Field


class InterruptGeneration(IntEnum):
    """How the IOMMU can interrupt (capabilities.IGS)."""

    MSI = 0
    WSI = 1
    BOTH = 2


class IommuMode(IntEnum):
    """What becomes of inbound transactions (ddtp.iommu_mode)."""

    Off = 0
    Bare = 1
    LVL1 = 2
    LVL2 = 3
    LVL3 = 4


class Capabilities(Descriptor, width=64):
    """What the IOMMU can."""

    version = Bits(7, 0)
    Sv32 = Bit(8)
    Sv39 = Bit(9)
    Sv48 = Bit(10)
    Sv57 = Bit(11)
    Svrsw60t59b = Bit(14)
    Svpbmt = Bit(15)
    Sv32x4 = Bit(16)
    Sv39x4 = Bit(17)
    Sv48x4 = Bit(18)
    Sv57x4 = Bit(19)
    AMO_MRIF = Bit(21)
    MSI_FLAT = Bit(22)
    MSI_MRIF = Bit(23)
    AMO_HWAD = Bit(24)
    ATS = Bit(25)
    T2GPA = Bit(26)
    END = Bit(27)
    IGS = Field(29, 28, of=InterruptGeneration)
    HPM = Bit(30)
    DBG = Bit(31)
    PAS = Bits(37, 32)
    PD8 = Bit(38)
    PD17 = Bit(39)
    PD20 = Bit(40)
    QOSID = Bit(41)
    NL = Bit(42)
    S = Bit(43)
    custom = Bits(63, 56)


class Fctl(Descriptor, width=32):
    """Features control."""

    BE = Bit(0)
    WSI = Bit(1)
    GXL = Bit(2)


class Ddtp(Descriptor, width=64):
    """Where the device directory begins, and how deep it is."""

    iommu_mode = Field(3, 0, of=IommuMode)
    busy = Bit(4)
    PPN = Bits(53, 10, shift=12)


class QueueBase(Descriptor, width=64):
    """cqb, fqb and pqb: where a queue lies; it has 2^(LOG2SZ_1 + 1) entries."""

    LOG2SZ_1 = Bits(4, 0)
    PPN = Bits(53, 10, shift=12)


class QueueIndex(Descriptor, width=32):
    """Head or tail of a queue, in entries."""

    index = Bits(31, 0)


class Cqcsr(Descriptor, width=32):
    """Control and status of the command queue."""

    cqen = Bit(0)
    cie = Bit(1)
    cqmf = Bit(8)
    cmd_to = Bit(9)
    cmd_ill = Bit(10)
    fence_w_ip = Bit(11)
    cqon = Bit(16)
    busy = Bit(17)


class Fqcsr(Descriptor, width=32):
    """Control and status of the fault queue."""

    fqen = Bit(0)
    fie = Bit(1)
    fqmf = Bit(8)
    fqof = Bit(9)
    fqon = Bit(16)
    busy = Bit(17)


class Pqcsr(Descriptor, width=32):
    """Control and status of the page-request queue."""

    pqen = Bit(0)
    pie = Bit(1)
    pqmf = Bit(8)
    pqof = Bit(9)
    pqon = Bit(16)
    busy = Bit(17)


class Ipsr(Descriptor, width=32):
    """Interrupts that wait for software."""

    cip = Bit(0)
    fip = Bit(1)
    pmip = Bit(2)
    pip = Bit(3)


class TrReqIova(Descriptor, width=64):
    """The address that software wants translated (debug interface)."""

    vpn = Bits(63, 12, shift=12)


class TrReqCtl(Descriptor, width=64):
    """For whom, and how; ``Go`` starts it (debug interface)."""

    Go = Bit(0)
    Priv = Bit(1)
    Exe = Bit(2)
    NW = Bit(3)
    PID = Bits(31, 12)
    PV = Bit(32)
    DID = Bits(63, 40)


class TrResponse(Descriptor, width=64):
    """What became of it (debug interface)."""

    fault = Bit(0)
    PBMT = Bits(8, 7)
    S = Bit(9)
    PPN = Bits(53, 10)


class Icvec(Descriptor, width=64):
    """Which vector each cause of interrupts has."""

    civ = Bits(3, 0)
    fiv = Bits(7, 4)
    pmiv = Bits(11, 8)
    piv = Bits(15, 12)


class MsiAddress(Descriptor, width=64):
    """msi_addr_x: where the message of a vector goes."""

    addr = Bits(55, 2, shift=2)


class MsiData(Descriptor, width=32):
    """msi_data_x: what the message says."""

    data = Bits(31, 0)


class MsiVectorControl(Descriptor, width=32):
    """msi_vec_ctl_x: M masks the vector."""

    M = Bit(0)


VECTORS = 16
"""Entries of msi_cfg_tbl."""

LAYOUTS: dict[str, tuple[int, type[Descriptor]]] = {
    "CAPABILITIES": (0, Capabilities),
    "FCTL": (8, Fctl),
    "DDTP": (16, Ddtp),
    "CQB": (24, QueueBase),
    "CQH": (32, QueueIndex),
    "CQT": (36, QueueIndex),
    "FQB": (40, QueueBase),
    "FQH": (48, QueueIndex),
    "FQT": (52, QueueIndex),
    "PQB": (56, QueueBase),
    "PQH": (64, QueueIndex),
    "PQT": (68, QueueIndex),
    "CQCSR": (72, Cqcsr),
    "FQCSR": (76, Fqcsr),
    "PQCSR": (80, Pqcsr),
    "IPSR": (84, Ipsr),
    "TR_REQ_IOVA": (600, TrReqIova),
    "TR_REQ_CTL": (608, TrReqCtl),
    "TR_RESPONSE": (616, TrResponse),
    "ICVEC": (760, Icvec),
}
"""Name -> offset (bytes) and layout; those of msi_cfg_tbl follow."""

for _vector in range(VECTORS):
    _at = 768 + 16 * _vector
    LAYOUTS[f"MSI_ADDR_{_vector}"] = (_at, MsiAddress)
    LAYOUTS[f"MSI_DATA_{_vector}"] = (_at + 8, MsiData)
    LAYOUTS[f"MSI_VEC_CTL_{_vector}"] = (_at + 12, MsiVectorControl)
