"""Machines that files describe."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from viommu.errors import BadValue
from viommu.policies import Policy, VmidOwner
from viommu.service.config import MachineConfig

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("machine_*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_vendor_has_an_example_that_works(path: Path) -> None:
    config = MachineConfig.load(path)
    machine, devices = config.make()
    with machine:
        assert machine.driver.info.name == config.driver
        assert [function.name for function in devices] == ["0000:00:10.0", "0000:00:11.0"]
        assert machine.policy.late_stage2


def test_what_is_not_named_is_as_in_linux() -> None:
    assert MachineConfig.parse({}) == MachineConfig(driver="selftest", policy=Policy())


def test_a_policy_is_read_by_its_names() -> None:
    document = tomllib.loads("[policy]\nvmid_owner = 'kvm'\niova_queues = true")
    assert MachineConfig.parse(document).policy == Policy(vmid_owner=VmidOwner.KVM, iova_queues=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drivers = 'vtd'", "drivers.* one of: device, driver"),
        ("driver = 7", "driver 0?x?7 is not a string"),
        ("uapi = '5.0'", "uapi '5.0' is not one of: 6.13"),
        ("walk_cache_entries = -1", "walk_cache_entries -.*1 is not 0 to"),
        ("sanitize = 1", "sanitize.* is not true or false"),
        ("[policy]\nearly = true", "policy.early.* one of: device_tlb"),
        ("[policy]\nvmid_owner = 'me'", "policy.vmid_owner 'me' is not one of: stage2"),
        ("[iotlb]\npolicy = 'best'", "iotlb.policy 'best' is not one of: lru"),
        ("[registers]\nCAP = 'all'", "registers.CAP 'all' is not a whole number"),
        ("[[device]]\nmodel = 'edu'", "device .* says its at"),
        ("[[device]]\nmodel = 'edu'\nat = 'there'", "address of edu 'there' is not a BDF"),
        ("device = [1]", "device .*1 is not a table"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_it_may_be(text: str, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        MachineConfig.parse(tomllib.loads(text))


@pytest.mark.parametrize("raw", [b"driver = ", b"\xff\xfe", b"x" * (1 << 20) + b"y"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "machine.toml"
    path.write_bytes(raw)
    with pytest.raises(BadValue):
        MachineConfig.load(path)


def test_a_program_finds_the_machine_of_a_file(client: Callable[[str], Path], tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    path = tmp_path / "machine.toml"
    path.write_text("driver = 'vtd'\n[[device]]\nmodel = 'edu'\nat = '0000:01:02.3'\n", encoding="ascii")
    words = [sys.executable, "-m", "viommu", "run", "--config", str(path), "--", str(client("edu")), "0000:01:02.3"]
    done = subprocess.run(words, text=True, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
