"""Every condition under which an STE or a CD is ILLEGAL, one by one, and the nearest legal neighbour of many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.smmuv3_cmdqv.tests.guest import STREAM, Guest, Log
from viommu.faults import Refusal
from viommu.formats import Context
from viommu.layout import Descriptor
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.registers import CR2, IDR0, IDR1, IDR3, IDR5
from viommu_smmuv3_cmdqv.spec.stream_table import STE, StreamConfig

Changes = dict[str, int]
Registers = dict[type[Descriptor], Changes]

S1, S2, NESTED = StreamConfig.STAGE1, StreamConfig.STAGE2, StreamConfig.NESTED
NO_STALL: Registers = {IDR0: {"STALL_MODEL": 1}}
FORCED: Registers = {IDR0: {"STALL_MODEL": 2}}
BITS_44: Registers = {IDR5: {"OAS": 4}}


def reason_of(guest: Guest) -> str | None:
    found = guest.configure()
    return found.reason if isinstance(found, Refusal) else None


def apply(guest: Guest, registers: Registers) -> None:
    for layout, fields in registers.items():
        guest.set(layout, **fields)


@pytest.mark.parametrize(
    ("ste", "registers"),
    [
        ({"Config": S1}, {IDR0: {"S1P": 0}}),
        ({"Config": NESTED}, {IDR0: {"S1P": 0}}),
        ({"Config": S2}, {IDR0: {"S2P": 0}}),
        ({"Config": NESTED}, {IDR0: {"S2P": 0}}),
        ({"Config": S1, "S1CDMax": 9}, {IDR1: {"SSIDSIZE": 8}}),
        ({"Config": S1, "S1CDMax": 1}, {IDR1: {"SSIDSIZE": 0}}),
        ({"Config": S1, "S1CDMax": 8, "S1Fmt": 1}, {IDR0: {"CD2L": 0}}),
        ({"Config": S1, "S1CDMax": 8, "S1Fmt": 2}, {IDR0: {"CD2L": 0}}),
        ({"Config": S1, "S1STALLD": 1}, NO_STALL),
        ({"Config": S1, "S1STALLD": 1}, FORCED),
        ({"Config": S1, "STRW": 1}, {}),
        ({"Config": S1, "STRW": 3}, {}),
        ({"Config": S1, "S2VMID": 0x100}, {IDR0: {"VMID16": 0}}),
        ({"S2VMID": 0x100}, {IDR0: {"VMID16": 0}}),
        ({"S2AA64": 0}, {}),
        ({"S2AA64": 0}, {IDR0: {"TTF": 3}}),
        ({"S2TG": 3}, {}),
        ({"S2TG": 0}, {IDR5: {"GRAN4K": 0}}),
        ({"S2TG": 2, "S2SL0": 2}, {IDR5: {"GRAN16K": 0}}),
        ({"S2TG": 1, "S2SL0": 1}, {IDR5: {"GRAN64K": 0}}),
        ({"S2SL0": 3}, {IDR3: {"STT": 0}}),
        ({"S2TG": 2, "S2SL0": 3}, {}),
        ({"S2TG": 1, "S2SL0": 3}, {}),
        ({"S2SL0_2": 1, "S2SL0": 1, "S2DS": 1}, {}),
        ({"S2TTB": 1 << 44, "S2PS": 4}, {}),
        ({"S2TTB": 1 << 44, "S2PS": 6}, BITS_44),
        ({"S2TTB": 1 << 48, "S2PS": 6}, {}),
        ({"S2T0SZ": 19, "S2SL0": 2}, BITS_44),
        ({"S2T0SZ": 15, "S2SL0": 2}, {}),
        ({"S2T0SZ": 40, "S2SL0": 0}, {IDR3: {"STT": 0}}),
        ({"S2T0SZ": 49, "S2SL0": 3}, {}),
        ({"S2ENDI": 1}, {IDR0: {"TTENDIAN": 2}}),
        ({"S2ENDI": 0}, {IDR0: {"TTENDIAN": 3}}),
        ({"S2S": 1}, NO_STALL),
        ({"S2S": 0}, FORCED),
        ({"S2HA": 1}, {IDR0: {"HTTU": 0}}),
        ({"S2HD": 1}, {IDR0: {"HTTU": 0}}),
        ({"S2HA": 1, "S2HD": 1}, {IDR0: {"HTTU": 1}}),
        ({"S2HAFT": 1}, {}),
        ({"S2S": 1, "EATS": 1}, {}),
        ({"EATS": 2}, {}),
        ({"Config": S1, "EATS": 2}, {}),
        ({"Config": NESTED, "EATS": 2, "S2S": 1}, {}),
        ({"Config": NESTED, "EATS": 2}, {IDR0: {"NS1ATS": 1}}),
    ],
)
def test_an_illegal_ste_is_a_bad_one(guest: Guest, ste: Changes, registers: Registers) -> None:
    guest.nested(**({"Config": int(S2)} | ste))
    apply(guest, registers)

    assert reason_of(guest) == "C_BAD_STE"


@pytest.mark.parametrize(
    ("ste", "registers"),
    [
        ({"Config": S1, "S2AA64": 0, "S2TG": 3, "S2SL0": 3, "S2T0SZ": 0, "S2ENDI": 1}, {IDR0: {"TTENDIAN": 2}}),
        ({"Config": S2, "S1CDMax": 31, "S1STALLD": 1, "STRW": 3}, NO_STALL),
        ({"Config": NESTED, "STRW": 3}, {}),
        ({"Config": S1, "STRW": 1}, {IDR0: {"HYP": 0}}),
        ({"Config": S1, "STRW": 2, "S2VMID": 0x100}, {IDR0: {"VMID16": 0}}),
        ({"Config": S1, "S1STALLD": 1}, {}),
        ({"Config": S1, "EATS": 1, "S2S": 1}, {}),
        ({"Config": S2, "EATS": 1, "S2S": 1}, {IDR0: {"ATS": 0}}),
        ({"Config": S2, "EATS": 2}, {IDR0: {"ATS": 0}}),
        ({"Config": S2, "EATS": 3}, {}),
        ({"Config": NESTED, "EATS": 2}, {}),
        ({"Config": S2, "S2HAFT": 1}, {IDR0: {"HTTU": 2}}),
        ({"Config": S2, "S2T0SZ": 20, "S2SL0": 2, "S2PS": 6}, BITS_44),
        ({"Config": S2, "S2TG": 1, "S2SL0": 1, "S2PS": 6, "S2TTB": 1 << 51}, {}),
        ({"Config": S2, "S2DS": 1, "S2PS": 6, "S2TTB": 1 << 51}, {}),
    ],
)
def test_a_legal_ste_is_taken(guest: Guest, ste: Changes, registers: Registers) -> None:
    guest.nested({"S": 0}, **ste)
    if ste["Config"] == S1:
        cd = guest.take(64)
        guest.put(cd, CD(V=1, AA64=1, EPD0=1, EPD1=1, A=1, T0SZ=16))
        guest.stream(**(ste | {"S1ContextPtr": cd}))
    apply(guest, registers)

    assert reason_of(guest) is None


STAGE2_RANGES = [
    (0, 0, 30, 42), (0, 1, 21, 33), (0, 2, 16, 24), (0, 3, 39, 48),
    (2, 0, 35, 48), (2, 1, 24, 38), (2, 2, 16, 27),
    (1, 0, 31, 47), (1, 1, 18, 34), (1, 2, 12, 21),
]  # fmt: skip
"""(S2TG, S2SL0, first and last T0SZ): the printed table, with small tables (STT) and 52-bit addresses."""


@pytest.mark.parametrize(("tg", "sl0", "first", "last"), STAGE2_RANGES)
def test_stage_2_sizes_and_start_levels_go_together_as_printed(
    guest: Guest, tg: int, sl0: int, first: int, last: int
) -> None:
    legal = []
    for t0sz in range(64):
        guest.stage2(S2TG=tg, S2SL0=sl0, S2T0SZ=t0sz)
        legal += [t0sz] if reason_of(guest) is None else []

    assert legal == list(range(first, last + 1))


@pytest.mark.parametrize(
    ("tg", "sl0", "t0sz", "oas", "legal"),
    [(0, 2, 24, 2, False), (0, 2, 22, 3, False), (0, 2, 20, 4, True), (2, 2, 27, 2, False), (2, 2, 25, 3, True)],
)
def test_a_start_level_needs_a_physical_address_space_of_its_size(
    guest: Guest, tg: int, sl0: int, t0sz: int, oas: int, legal: bool
) -> None:
    guest.set(IDR5, OAS=oas)
    guest.stage2(S2TG=tg, S2SL0=sl0, S2T0SZ=t0sz)

    assert (reason_of(guest) is None) == legal


@pytest.mark.parametrize(
    ("cd", "registers"),
    [
        ({"V": 0}, {}),
        ({"AA64": 0}, {}),
        ({"AA64": 0}, {IDR0: {"TTF": 3}}),
        ({"A": 0}, {IDR0: {"TERM_MODEL": 1}}),
        ({"S": 1}, NO_STALL),
        ({"S": 0}, FORCED),
        ({"HA": 1}, {IDR0: {"HTTU": 0}}),
        ({"HD": 1}, {IDR0: {"HTTU": 0}}),
        ({"HA": 1, "HD": 1}, {IDR0: {"HTTU": 1}}),
        ({"HAFT": 1}, {}),
        ({"ASID": 0x100}, {IDR0: {"ASID16": 0}}),
        ({"ENDI": 1}, {IDR0: {"TTENDIAN": 2}}),
        ({"ENDI": 0}, {IDR0: {"TTENDIAN": 3}}),
        ({"T0SZ": 15}, {}),
        ({"T0SZ": 15, "DS": 1}, {IDR5: {"DS": 0}}),
        ({"T0SZ": 15, "TG0": 1}, {IDR5: {"VAX": 0}}),
        ({"T0SZ": 11, "TG0": 1}, {}),
        ({"T0SZ": 40}, {IDR3: {"STT": 0}}),
        ({"T0SZ": 49}, {}),
        ({"T0SZ": 48, "TG0": 1}, {}),
        ({"EPD1": 0, "T1SZ": 15}, {}),
        ({"TG0": 3}, {}),
        ({"TG0": 0}, {IDR5: {"GRAN4K": 0}}),
        ({"TG0": 1}, {IDR5: {"GRAN64K": 0}}),
        ({"TG0": 2}, {IDR5: {"GRAN16K": 0}}),
        ({"EPD1": 0, "TG1": 0}, {}),
        ({"EPD1": 0, "TG1": 1}, {IDR5: {"GRAN16K": 0}}),
        ({"TTB0": 1 << 44, "IPS": 4}, {}),
        ({"TTB0": 1 << 44, "IPS": 6}, BITS_44),
        ({"TTB0": 1 << 48, "IPS": 6}, {}),
        ({"EPD1": 0, "TTB1": 1 << 48, "IPS": 5}, {}),
    ],
)
def test_an_illegal_cd_is_a_bad_one(guest: Guest, cd: Changes, registers: Registers) -> None:
    guest.stage1(**cd)
    apply(guest, registers)

    report = guest.report(0x1000)

    assert (report.outcome, report.reason) == ("fault", "C_BAD_CD")


@pytest.mark.parametrize(
    ("cd", "registers"),
    [
        ({"A": 0}, {}),
        ({"S": 1}, {}),
        ({"S": 1}, FORCED),
        ({"HA": 1, "HD": 1, "HAFT": 1}, {}),
        ({"HAFT": 1}, {IDR0: {"HTTU": 2}}),
        ({"EPD0": 1, "T0SZ": 0, "TG0": 3, "TTB0": 1 << 51, "ENDI": 1}, {IDR0: {"TTENDIAN": 2}}),
        ({"EPD1": 1, "T1SZ": 0, "TG1": 0, "TTB1": 1 << 51}, {}),
        ({"T0SZ": 12, "TG0": 1}, {}),
        ({"T0SZ": 12, "DS": 1}, {}),
        ({"T0SZ": 12, "TG0": 2, "DS": 1}, {}),
        ({"T0SZ": 48}, {}),
        ({"T0SZ": 47, "TG0": 1}, {}),
        ({"T0SZ": 39}, {IDR3: {"STT": 0}}),
        ({"TTB0": 1 << 51, "IPS": 6, "TG0": 1}, {}),
        ({"TTB0": 1 << 51, "IPS": 6, "DS": 1}, {}),
        ({"ENDI": 1}, {IDR0: {"TTENDIAN": 3}}),
    ],
)
def test_a_legal_cd_is_taken(guest: Guest, cd: Changes, registers: Registers) -> None:
    guest.stage1(**cd)
    apply(guest, registers)

    assert reason_of(guest) is None


def test_a_cd_may_not_stall_where_its_ste_forbids_it(guest: Guest) -> None:
    at = guest.stage1(S=1)
    guest.stream(Config=S1, S1ContextPtr=at, S1STALLD=1)

    assert reason_of(guest) == "C_BAD_CD"


@pytest.mark.parametrize("e2h", [0, 1])
def test_el2_has_one_half_and_no_asid_unless_it_hosts(guest: Guest, e2h: int) -> None:
    at = guest.stage1(EPD1=0, T1SZ=0, ASID=0x100)
    guest.stream(Config=S1, S1ContextPtr=at, STRW=2)
    guest.set(CR2, E2H=e2h)
    guest.set(IDR0, ASID16=0)

    assert reason_of(guest) == ("C_BAD_CD" if e2h else None)


def test_el2_ignores_that_walks_of_the_lower_half_are_disabled(guest: Guest) -> None:
    at = guest.stage1(EPD0=1, T0SZ=0)
    guest.stream(Config=S1, S1ContextPtr=at, STRW=2)

    assert reason_of(guest) == "C_BAD_CD"


def test_the_complaint_names_field_value_and_bound(guest: Guest) -> None:
    guest.stage1(T0SZ=50)

    assert guest.refusal().detail == "T0SZ 50 is not 16 to 48"


FEATURE_BITS = st.fixed_dictionaries(
    {
        IDR0: st.fixed_dictionaries(
            {name: st.integers(0, 1) for name in ("HYP", "ATS", "ASID16", "VMID16", "CD2L", "TERM_MODEL")}
            | {"HTTU": st.integers(0, 3), "STALL_MODEL": st.integers(0, 3), "TTENDIAN": st.integers(0, 3)}
        ),
        IDR3: st.fixed_dictionaries({name: st.integers(0, 1) for name in ("STT", "FWB", "XNX", "HAD")}),
        IDR5: st.fixed_dictionaries({"OAS": st.integers(0, 7), "DS": st.integers(0, 1), "VAX": st.integers(0, 3)}),
    }
)

GUEST = Guest()
CD_AT = GUEST.take(CD.size)


@given(
    ste=st.integers(0, (1 << 512) - 1),
    cd=st.integers(0, (1 << 512) - 1),
    config=st.sampled_from([S1, S2, NESTED]),
    features=FEATURE_BITS,
    pasid=st.none() | st.integers(0, 3),
    tamed=st.booleans(),
)
def test_no_bytes_make_the_hardware_raise(
    ste: int, cd: int, config: int, features: Registers, pasid: int | None, tamed: bool
) -> None:
    apply(GUEST, features)
    entry, context = STE.decode(ste).replace(V=1, Config=config), CD.decode(cd)
    if tamed:  # closer to what is legal, so that formats are made
        entry = entry.replace(
            S1ContextPtr=CD_AT, S1CDMax=0, S2AA64=1, S1STALLD=0, S2S=0, S2HA=0, S2HD=0, S2HAFT=0, EATS=0, S2VMID=1
        )
        context = context.replace(V=1, AA64=1, A=1, S=0, HA=0, HD=0, HAFT=0, ASID=1)
    GUEST.put(CD_AT, context)
    GUEST.put(GUEST.stream(), entry)

    found = GUEST.hardware.configure(STREAM, pasid, Log())

    assert isinstance(found, Context | Refusal)
