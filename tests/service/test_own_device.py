"""The device of docs/how-to/add-a-device.md works as the page says."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from tests.service.tester import raised
from viommu import Machine
from viommu.errors import BadValue, BrokenDriver
from viommu.vfio.catalogue import model_named
from viommu.vfio.devices import Devices, Plug
from viommu.vfio.uapi import Region, SetIrqs

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-device.md"
ADDRESS, COUNT, GO, SUM, ERRORS = 0x00, 0x08, 0x0C, 0x10, 0x18
IOVA = 0x40_0000


@pytest.fixture
def adder(tmp_path: Path) -> Path:
    program = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert program is not None
    made = tmp_path / "adder.py"
    made.write_text(program[1])
    return made


def test_the_example_adds_what_the_program_mapped(adder: Path) -> None:
    with Machine("vtd") as machine, machine.open_iommufd() as iommu:
        function = Devices(machine).add(Plug.parse(f"{adder}@00:10.0,limit=64"))
        event = os.eventfd(0, os.EFD_NONBLOCK)
        asked = SetIrqs.of(argsz=24, flags=0x24, index=1, start=0, count=1)
        function.interrupts.set(asked, lambda _: struct.pack("<i", event), os.dup)
        numbers = machine.buffer(4096).view(np.uint32)
        numbers[:100] = 3
        ioas = iommu.ioas_alloc()
        ioas.map(numbers, IOVA)
        iommu.bind(function.endpoint).attach(ioas)
        function.open()
        function.store(Region.CONFIG, 4, b"\6\0")

        def run(address: int, count: int) -> tuple[int, int]:
            for at, size, value in ((ADDRESS, 8, address), (COUNT, 4, count), (GO, 4, 1)):
                function.store(0, at, value.to_bytes(size, "little"))
            done = Event()
            function.bus.after(0, done.set)
            assert done.wait(10)
            total, errors = (int.from_bytes(function.load(0, at, 4) or b"", "little") for at in (SUM, ERRORS))
            return total, errors

        assert run(IOVA, 10) == (30, 0)
        assert run(IOVA, 100) == (64 * 3, 0)
        assert run(IOVA + (1 << 20), 1) == (64 * 3, 1)
        assert raised([event]) == [3]


def test_a_file_that_will_not_do_is_named(tmp_path: Path, adder: Path) -> None:
    with Machine("vtd") as machine:
        devices = Devices(machine)
        with pytest.raises(BadValue, match="is not a Python file"):
            devices.add(Plug.parse(f"{tmp_path / 'nothing.py'}@00:10.0"))
        with pytest.raises(BadValue, match="one of: limit"):
            devices.add(Plug.parse(f"{adder}@00:10.0,most=3"))
        (tmp_path / "broken.py").write_text("import nothing_of_that_name")
        with pytest.raises(BrokenDriver, match="nothing_of_that_name"):
            devices.add(Plug.parse(f"{tmp_path / 'broken.py'}@00:10.0"))
        (tmp_path / "empty.py").write_text("")
        with pytest.raises(BrokenDriver, match="ModelInfo"):
            devices.add(Plug.parse(f"{tmp_path / 'empty.py'}@00:10.0"))


def test_a_file_may_hold_dataclasses(adder: Path) -> None:
    adder.write_text(
        f"{adder.read_text()}\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Pair:\n    first: 'int'\n"
    )
    assert model_named(str(adder)).info.options
