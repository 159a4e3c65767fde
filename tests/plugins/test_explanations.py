"""What every installed driver explains: any bytes of every kind, and any text of a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viommu.decoding.decode import decode_bytes, decode_log, decode_text
from viommu.drivers import bind
from viommu.layout import Descriptor

NAMES = ("amd_viommu", "smmuv3_cmdqv", "vtd")
DRIVERS = {name: bind(name) for name in NAMES}
SIZED = [(name, kind, size) for name in NAMES for kind, sizes in DRIVERS[name].kinds().items() for size in sizes]

LOG = """\
arm-smmu-v3 arm-smmu-v3.0.auto: |event 0x10 received:|0x0000002800000010|
|AMD-Vi: |DTE[0]: |6190000000000003
|AMD-Vi: |Event logged [|IO_PAGE_FAULT |device=0000:03:00.0 |domain=0x000d |address=0xdf000000 |flags=0x0020]
|DMAR: |[DMA Write NO_PASID] |Request device [00:1f.2] |fault addr 0xdeadbeef000 |[fault reason 0x05] |[ 1.0] |-1
|tegra241_cmdqv: |CMDQ error (cons 0x01000004): Illegal command|[]"""
FRAGMENTS = st.sampled_from(LOG.split("|"))


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_events_are_among_the_kinds(name: str) -> None:
    kinds = DRIVERS[name].kinds()

    assert {"command", "event"} <= set(kinds)
    assert all(sizes and all(size > 0 for size in sizes) for sizes in kinds.values())


@given(st.sampled_from(SIZED), st.data())
def test_any_bytes_are_explained_and_are_the_same_again(sized: tuple[str, str, int], data: st.DataObject) -> None:
    name, kind, size = sized
    raw = data.draw(st.binary(min_size=size, max_size=size) | st.sampled_from([bytes(size), b"\xff" * size]))

    found = decode_bytes(DRIVERS[name], kind, raw)

    assert found.decoded.kind == kind
    assert found.decoded.name
    assert found.decoded.meaning
    assert isinstance(found.decoded.descriptor, Descriptor)
    assert "\n" not in "".join((found.decoded.meaning, *found.decoded.complaints, *found.decoded.causes))
    assert [again.raw for again in decode_text(DRIVERS[name], kind, raw.hex(" "))] == [raw]


@pytest.mark.parametrize("sized", SIZED, ids=lambda sized: "-".join(map(str, sized)))
def test_zeros_and_ones_of_every_kind_are_explained(sized: tuple[str, str, int]) -> None:
    name, kind, size = sized

    for raw in (bytes(size), b"\xff" * size):
        assert decode_bytes(DRIVERS[name], kind, raw).to_json()["raw"] == raw.hex()


@given(st.text(max_size=300) | st.lists(FRAGMENTS | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_is_a_log(text: str) -> None:
    for found in decode_log(list(DRIVERS.values()), text):
        assert found.decoded.name
