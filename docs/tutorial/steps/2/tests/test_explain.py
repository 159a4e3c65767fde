"""What is said of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viommu import bind

ACME = bind("acme")


def test_a_record_is_explained() -> None:
    decoded = ACME.decode("event", bytes([4, 1, 3, 0]) + bytes(4) + (0x5000).to_bytes(8, "little"))

    assert decoded.name == "NOT_WRITABLE"
    assert decoded.meaning == "Device 0x3 was refused a write to 0x5000."
    assert decoded.causes == ("the mapping is read-only",)


@pytest.mark.parametrize("kind", ACME.kinds())
@settings(deadline=None)
@given(data=st.data())
def test_any_bytes_are_explained_and_kept(kind: str, data: st.DataObject) -> None:
    (size,) = ACME.kinds()[kind]
    raw = data.draw(st.binary(min_size=size, max_size=size))

    assert ACME.decode(kind, raw).descriptor.encode() == raw


def test_what_no_hardware_would_write_is_complained_of() -> None:
    assert ACME.decode("event", bytes([0x77]) + bytes(15)).complaints == ("there is no code 0x77",)
    assert ACME.decode("DTE", b"\x11" + bytes(15)).complaints == ("reserved bits are set: 0x10",)
