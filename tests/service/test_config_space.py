"""The configuration space that programs read of a device."""

from __future__ import annotations

from viommu.modelspecs import Bar, PciIdentity, PciShape
from viommu.vfio.config_space import ConfigSpace

SHAPE = PciShape(
    PciIdentity(0x1234, 0x5678, 0x010802), (Bar(0, 0x4000, wide=True),), msi=4, msix=32, msix_table=(0, 0x2000)
)


def capabilities(space: ConfigSpace) -> dict[int, int]:
    """Follow the list: number of each capability -> where it lies."""
    found, at = {}, space.read(0x34, 1)[0]
    while at:
        number, following = space.read(at, 2)
        found[number], at = at, following
    return found


def word(space: ConfigSpace, at: int, size: int) -> int:
    return int.from_bytes(space.read(at, size), "little")


def test_capabilities_say_how_many_vectors_there_are_and_where_their_table_is() -> None:
    space = ConfigSpace(SHAPE)
    found = capabilities(space)
    assert set(found) == {0x05, 0x10, 0x11}
    assert word(space, found[0x05] + 2, 2) == 1 << 7 | 2 << 1  # 64-bit, four vectors
    assert word(space, found[0x11] + 2, 2) == 31
    assert (word(space, found[0x11] + 4, 4), word(space, found[0x11] + 8, 4)) == (0x2000, 0x2200)


def test_software_enables_msix_and_cannot_change_its_size() -> None:
    space = ConfigSpace(SHAPE)
    at = capabilities(space)[0x11] + 2
    space.write(at, b"\xff\xff")
    assert word(space, at, 2) == 0xC000 | 31
    space.open()
    assert word(space, at, 2) == 31


def test_a_bar_tells_its_size_and_keeps_its_address_until_the_device_is_opened_anew() -> None:
    space = ConfigSpace(SHAPE)
    space.write(0x10, b"\xff" * 8)
    assert word(space, 0x10, 8) == (1 << 64) - 0x4000 | 0xC
    space.write(0x10, (0xFE00_0000).to_bytes(8, "little"))
    assert word(space, 0x10, 8) == 0xFE00_000C
    space.open()
    assert word(space, 0x10, 8) == 0xC
