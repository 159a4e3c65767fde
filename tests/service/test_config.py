"""Machines that files describe."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import fields

from tools.config_page import PAGE, page
from viommu import Iotlb
from viommu.errors import BadValue
from viommu.policies import Policy, VmidOwner
from viommu.service.config import MachineConfig
from viommu.service.config_keys import DEVICE, IOTLB, POLICY, REGISTER, TOP

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.service.config_keys import Key

KEYS = [
    (where, key)
    for where, keys in (("", TOP), ("iotlb", IOTLB), ("policy", POLICY), ("registers", (REGISTER,)), ("device", DEVICE))
    for key in keys
]
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


@pytest.mark.parametrize(("where", "key"), KEYS, ids=lambda part: getattr(part, "name", part))
def test_each_key_refuses_what_it_may_not_be(where: str, key: Key) -> None:
    wrong: list[object] = [1.5, "neither", [], {}, True, 7, key.least - 1, key.most + 1, 3]
    allowed = {str: (str,), bool: (bool,), dict: (dict,), list: (list,), int: ()}[key.kind]
    for value in wrong:
        if isinstance(value, allowed) and not (key.choices and value == "neither"):
            continue
        if key.kind is int and type(value) is int and _may_be(key, value):
            continue
        with pytest.raises(BadValue) as refused:
            MachineConfig.parse(document_with(where, key.name, value))
        assert f"{where}.{key.name}".lstrip(".") in str(refused.value)
        assert key.may_be in str(refused.value)


def _may_be(key: Key, value: int) -> bool:
    return key.least <= value <= key.most and (not key.is_power or value.bit_count() == 1)


@pytest.mark.parametrize(("where", "key"), KEYS, ids=lambda part: getattr(part, "name", part))
def test_each_key_takes_its_bounds_and_choices(where: str, key: Key) -> None:
    taken = {int: (key.least, key.most), bool: (False, True)}.get(key.kind, key.choices)
    for value in taken:
        if not isinstance(value, int) or _may_be(key, value) or key.kind is bool:
            config = MachineConfig.parse(document_with(where, key.name, value))
            assert MachineConfig.parse(config.to_document()) == config


def document_with(where: str, name: str, value: object) -> dict[str, Any]:
    if where == "device":
        return {"device": [{"model": "edu", "at": "00:10.0", name: value}]}
    return {where: {name: value}} if where else {name: value}


def test_the_page_is_what_the_reader_checks() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run tools/config_page.py"


def test_defaults_are_those_of_the_engine_and_of_the_policy() -> None:
    engine = Iotlb()
    for key in IOTLB:
        if hasattr(engine, key.name):
            assert getattr(engine, key.name) == key.default
    assert {key.name for key in POLICY} == {one.name for one in fields(Policy)}
    assert all(key.meaning for key in POLICY)


def test_every_option_is_written_as_it_is_read() -> None:
    for path in EXAMPLES:
        config = MachineConfig.load(path)
        assert MachineConfig.parse(config.to_document()) == config


def test_a_geometry_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadValue, match=r"iotlb .* entries 4 is not a power of two from ways"):
        MachineConfig.parse({"iotlb": {"entries": 4, "ways": 8}}).make()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drivers = 'vtd'", "drivers.* one of: device, driver"),
        ("driver = 7", "driver 0?x?7 is not a string"),
        ("uapi = '5.0'", "uapi '5.0' is not one of: 6.13"),
        ("walk_cache_entries = -1", "walk_cache_entries -.*1 is not a whole number, 0 to"),
        ("sanitize = 1", "sanitize.* is not true or false"),
        ("[policy]\nearly = true", "policy.early.* one of: device_tlb"),
        ("[policy]\nvmid_owner = 'me'", "policy.vmid_owner 'me' is not one of: stage2"),
        ("[iotlb]\npolicy = 'best'", "iotlb.policy 'best' is not one of: lru"),
        ("[iotlb]\nentries = 3", "iotlb.entries .*3 is not a power of two, 1 to"),
        ("[registers]\nCAP = 'all'", "registers.CAP 'all' is not a whole number"),
        ("[[device]]\nmodel = 'edu'", "device .* says its at"),
        ("[[device]]\nmodel = 'edu'\nat = 'there'", "address of edu 'there' is not a BDF"),
        ("device = [1]", "device .*1 is not a table"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_it_may_be(text: str, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        MachineConfig.parse(tomllib.loads(text))


def test_another_driver_than_that_whose_registers_a_file_gives_is_refused() -> None:
    config = MachineConfig.parse({"driver": "vtd", "registers": {"CAP": 1}})
    with pytest.raises(BadValue, match=r"--driver 'amd_viommu' is not the file's: it gives registers of vtd \(CAP\)"):
        config.changed("amd_viommu", ())
    assert config.changed("vtd", ()) == config


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
