"""Where registers lie (VT-d 11.4): bytes from the start of a unit's register page."""

from __future__ import annotations

UNIT = 16
"""Bytes that ECAP.IRO and CAP.FRO count in."""

OFFSETS: dict[str, int] = {
    "VER": 0x00, "CAP": 0x08, "ECAP": 0x10, "GCMD": 0x18, "GSTS": 0x1C, "RTADDR": 0x20, "CCMD": 0x28, "FSTS": 0x34,
    "FECTL": 0x38, "FEDATA": 0x3C, "FEADDR": 0x40, "FEUADDR": 0x44, "PMEN": 0x64, "PLMBASE": 0x68, "PLMLIMIT": 0x6C,
    "PHMBASE": 0x70, "PHMLIMIT": 0x78, "IQH": 0x80, "IQT": 0x88, "IQA": 0x90, "ICS": 0x9C, "IECTL": 0xA0,
    "IEDATA": 0xA4, "IEADDR": 0xA8, "IEUADDR": 0xAC, "IQERCD": 0xB0, "IRTA": 0xB8, "PQH": 0xC0, "PQT": 0xC8,
    "PQA": 0xD0, "PRS": 0xDC, "PECTL": 0xE0, "PEDATA": 0xE4, "PEADDR": 0xE8, "PEUADDR": 0xEC,
}  # fmt: skip
"""Registers at fixed offsets. IVA, IOTLB and the fault records lie where ECAP.IRO and CAP.FRO say."""
