"""`viommu doctor` finds what is wrong with a machine, and says which of it matters."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from viommu.cli.doctor import doctor
from viommu.service.doctor import Finding, examine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = [
    "shim",
    "memfd",
    "mapped BARs",
    "mappings by address",
    "ptrace scope",
    "huge pages",
    "open files",
    "drivers",
    "device models",
]


def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_everything_is_tried_and_what_is_needed_is_there() -> None:
    findings = found()
    assert list(findings) == NAMES
    assert all(finding.well for finding in findings.values() if finding.needed)
    assert {name for name in NAMES if findings[name].needed} == {"shim", "memfd", "drivers"}
    for plugin in ("vtd", "amd_viommu", "smmuv3_cmdqv", "selftest"):
        assert f"{plugin} " in findings["drivers"].found


def test_a_shim_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIOMMU_SHIM", str(tmp_path / "none.so"))
    shim = found()["shim"]
    assert not shim.well
    assert "this installation of viommu has none" in shim.found


def test_a_shim_that_does_not_load_is_found_by_what_programs_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.so").write_text("no library", encoding="ascii")
    monkeypatch.setenv("VIOMMU_SHIM", str(tmp_path / "text.so"))
    assert found()["shim"] == Finding("shim", False, "programs are not answered", True)
    assert "text.so" in capfd.readouterr().err  # the loader's own complaint


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_descriptors")
def test_few_descriptors_are_remarked_and_no_hindrance() -> None:
    findings = found()
    assert not findings["open files"].well
    assert findings["open files"].found.startswith("512 (at most ")
    assert findings["shim"].well


def test_the_status_tells_whether_programs_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for needed, status in ((True, 1), (False, 0)):
        monkeypatch.setattr("viommu.cli.doctor.examine", lambda needed=needed: [Finding("a", False, "b", needed)])
        done = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
        assert done.return_value == status
        assert json.loads(done.stdout)["findings"] == [{"name": "a", "well": False, "found": "b"}]
