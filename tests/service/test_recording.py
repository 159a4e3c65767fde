"""Runs of programs that know nothing of this project are recorded, and repeated without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from viommu.service.config import MachineConfig
from viommu.service.recording import contents
from viommu.service.recording.lines import BadRecording, LineReader, LineWriter
from viommu.service.recording.recorder import Recorder
from viommu.service.rerun.files import with_copies
from viommu.service.rerun.recording import Recording
from viommu.service.rerun.rerun import Result, rerun
from viommu.service.run import served
from viommu.vfio.devices import Plug

if TYPE_CHECKING:
    from collections.abc import Callable

EDU = "0000:00:10.0"
DEVICE = ("edu@00:10.0",)
VIOMMU = [sys.executable, "-m", "viommu"]
MOST_CHECKED = 200
MOST_CHANGED = 30


def record(path: Path, *program: str | Path, driver: str = "selftest", devices: tuple[str, ...] = ()) -> Path:
    """Record a program that must succeed."""
    config = MachineConfig().changed(driver, devices)
    recorder = Recorder(path, config)
    with recorder.made.machine, served(*recorder.made, recorder) as environment:
        words = [str(word) for word in program]
        done = subprocess.run(words, env={**os.environ, **environment}, check=False, timeout=60)
    assert done.returncode == 0
    return path


def again(path: Path, machine: MachineConfig | None = None) -> Result:
    """Repeat a recording, on another machine where one is given."""
    recording = Recording(path)
    return rerun(recording, recording.config(other=machine))


def viommu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*VIOMMU, *(str(word) for word in words)]
    return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def of_edu(tmp_path_factory: pytest.TempPathFactory, client: Callable[[str], Path]) -> Path:
    """A run of a driver in user space: DMA, interrupts, registers."""
    return record(tmp_path_factory.mktemp("edu") / "run", client("edu"), EDU, driver="vtd", devices=DEVICE)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("calls", "threads"),
        ("calls", "fork"),
        ("memory", "memory_grows_where_it_lies"),
        ("memory", "stores_wait_while_memory_is_shared"),
        ("memory", "stacks_are_reached_where_they_are"),
        ("processes", "threads_make_children_at_the_same_time"),
    ],
)
def test_a_run_is_repeated_without_its_program(
    client: Callable[[str], Path], tmp_path: Path, name: str, case: str
) -> None:
    result = again(record(tmp_path / "run", client(name), case))
    assert result.difference is None
    assert result.is_whole
    assert result.records > 1


@pytest.mark.parametrize("driver", ["vtd", "smmuv3_cmdqv", "amd_viommu"])
def test_dma_and_interrupts_are_repeated(client: Callable[[str], Path], tmp_path: Path, driver: str) -> None:
    path = record(tmp_path / "run", client("edu"), EDU, driver=driver, devices=DEVICE)
    result = again(path)
    assert result.difference is None
    assert any(line.get("interrupts") for line in LineReader(path))
    assert any(line.get("changes") for line in LineReader(path))
    assert any(line.get("stored") for line in LineReader(path))


@pytest.mark.parametrize(("vendor", "other"), [("smmuv3", "vtd"), ("amd", "smmuv3_cmdqv")])
def test_stores_of_guests_to_shared_registers_are_repeated(
    client: Callable[[str], Path], tmp_path: Path, vendor: str, other: str
) -> None:
    path = tmp_path / "run"
    config = Path(__file__).parents[2] / "examples" / f"machine_{vendor}.toml"
    done = viommu("run", "--record", path, "--config", config, "--", client(f"nested_{vendor}"), "0000:00:11.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.get("what") == "stores" for line in LineReader(path))
    assert again(path).difference is None
    recording = Recording(path)
    difference = rerun(recording, recording.config(driver=other)).difference
    assert difference is not None
    assert difference.call.startswith("IOMMU_")


def test_a_refusal_is_explained(client: Callable[[str], Path], tmp_path: Path) -> None:
    path = record(tmp_path / "run", client("edu"), EDU, driver="vtd", devices=DEVICE)
    other = MachineConfig(driver="selftest", devices=Recording(path).machine.devices)
    difference = again(path, other).difference
    assert difference is not None
    assert (difference.call, difference.field) == ("IOMMU_IOAS_MAP", "result")
    assert (difference.recorded, difference.now) == ("0", "EINVAL")
    assert "beyond the aperture of a page table" in difference.reasons[0]


def test_a_machine_of_which_less_is_known_differs_where_a_call_does(of_edu: Path) -> None:
    result = again(of_edu, machine=MachineConfig(driver="vtd", uapi="6.13", devices=Recording(of_edu).machine.devices))
    assert result.difference is None  # edu needs nothing newer
    other = MachineConfig(driver="vtd", devices=(Plug.parse(f"edu@{EDU},dma_mask=0xfff"),))
    difference = again(of_edu, machine=other).difference
    assert difference is not None
    assert difference.call == f"write of device {EDU}, BAR 0 at 0x98"
    assert difference.program.startswith("edu (process ")


def test_what_is_lost_of_a_recording_is_not_noticed_before_that(of_edu: Path, tmp_path: Path) -> None:
    whole = of_edu.read_bytes()
    records = again(of_edu).records
    for part in range(4):
        path = tmp_path / f"cut {part}"
        path.write_bytes(whole[: len(whole) * (part + 4) // 8])
        result = again(path)
        assert result.difference is None
        assert not result.is_whole
        assert 0 < result.records < records


def test_a_record_is_in_the_file_as_soon_as_it_has_happened(tmp_path: Path) -> None:
    path = tmp_path / "run"
    recorder = Recorder(path, MachineConfig())
    asked = "import os; os.open('/dev/iommu', os.O_RDWR)"
    with recorder.made.machine, served(*recorder.made, recorder) as environment:
        subprocess.run([sys.executable, "-c", asked], env={**os.environ, **environment}, check=True, timeout=60)
        assert "open" in [line.get("what") for line in LineReader(path)]


def test_a_recording_is_its_owners(of_edu: Path) -> None:
    assert of_edu.stat().st_mode & 0o777 == 0o600


def test_no_damage_to_a_file_does_more_than_to_be_told(
    client: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = record(tmp_path / "run", client("calls"), "ioctl").read_bytes()
    path = tmp_path / "damaged"
    for at in range(0, len(whole), max(1, len(whole) // MOST_CHECKED)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with suppress(BadRecording):
            again(path)
    assert not capsys.readouterr().err


def test_numbers_that_are_others_make_a_difference_or_none(of_edu: Path, tmp_path: Path) -> None:
    lines = list(LineReader(of_edu))
    random = Random(9)
    for number in range(MOST_CHANGED):
        changed = json.loads(json.dumps(lines))
        _change(changed[1 + number % (len(lines) - 2)], random)
        writer = LineWriter(tmp_path / "changed")
        for line in changed:
            writer.write(line)
        writer.close()
        with suppress(BadRecording):
            again(tmp_path / "changed")


def _change(line: dict[Any, Any] | list[Any], random: Random) -> None:
    """Make one number of a line, or of what is in it, another."""
    keys: list[Any] = list(line) if isinstance(line, dict) else list(range(len(line)))
    if not keys:
        return
    key = random.choice(keys)
    if isinstance(line[key], list | dict):
        _change(line[key], random)
    elif isinstance(line[key], int):
        line[key] = random.choice([0, -1, 1, line[key] ^ 1 << random.randrange(60), (1 << 63) - 1])


@pytest.mark.parametrize(
    ("status", "words"), [(0, ()), (1, ("--driver", "selftest")), (2, ("--driver", "no-such-driver"))]
)
def test_the_command_ends_with_what_it_found(of_edu: Path, status: int, words: tuple[str, ...]) -> None:
    done = viommu("rerun", of_edu, *words)
    assert done.returncode == status, done.stdout + done.stderr
    said = viommu("rerun", of_edu, "--json", *words)
    if status < 2:
        assert json.loads(said.stdout)["same"] is (status == 0)
    else:
        assert done.stderr.count("\n") == 1


def test_devices_of_a_recording_are_models_that_are_installed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    writer = LineWriter(path)
    plug = {"model": str(tmp_path / "evil.py"), "at": EDU}
    writer.write({"viommu": "recording", "format": 1, "machine": {"driver": "vtd", "device": [plug]}})
    writer.close()
    (tmp_path / "evil.py").write_text("raise SystemExit(7)", encoding="ascii")
    done = viommu("rerun", path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "give it by --device" in done.stderr
    assert viommu("rerun", path, "--device", DEVICE[0]).returncode == 0


def test_a_rerun_writes_to_no_file_of_a_devices(tmp_path: Path) -> None:
    disk, path = tmp_path / "disk", tmp_path / "run"
    disk.write_bytes(bytes(4000) + b"end".ljust(96))
    config = MachineConfig(driver="vtd", devices=(Plug.parse(f"nvme@{EDU},file={disk}"),))
    recorder = Recorder(path, config)
    recorder.made.machine.close()
    recorder.end()
    disk.write_bytes(b"changed".ljust(4096))
    recording = Recording(path)
    with with_copies(recording.config(), recording.contents) as copied:
        (plug,) = copied.devices
        assert Path(plug.options["file"]).read_bytes() == bytes(4000) + b"end".ljust(96)
        assert plug.options["file"] != str(disk)
        with copied.make().machine:
            assert disk.read_bytes() == b"changed".ljust(4096)
    assert again(path).difference is None


def test_a_file_that_is_too_large_to_be_kept_must_be_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_KEPT", 4096)
    disk, path = tmp_path / "disk", tmp_path / "run"
    disk.write_bytes(b"x" * 8192)
    recorder = Recorder(path, MachineConfig(driver="vtd", devices=(Plug.parse(f"nvme@{EDU},file={disk}"),)))
    recorder.made.machine.close()
    recorder.end()
    assert again(path).difference is None
    disk.write_bytes(b"y" * 8192)
    done = viommu("rerun", path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "as it was: 8192 bytes" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        {"content": "a", "size": 1 << 40, "sha256": ""},
        {"content": "a", "at": 0, "data": "00"},
        {"content": 5, "size": 1, "sha256": ""},
    ],
)
def test_a_recording_cannot_tell_of_files_without_bound(tmp_path: Path, line: dict[str, object]) -> None:
    writer = LineWriter(tmp_path / "run")
    writer.write({"viommu": "recording", "format": 1, "machine": {"driver": "vtd"}})
    writer.write(line)
    writer.close()
    done = viommu("rerun", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("data", [b"", b"no gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"])
def test_what_is_no_recording_is_told_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    done = viommu("rerun", path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_run_that_is_recorded_prints_nothing_of_it(client: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    done = viommu("run", "--record", path, "--", client("calls"), "ioctl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert viommu("rerun", path).stdout.startswith("the same: ")


def test_a_file_that_cannot_be_written_is_told_before_the_program_runs(tmp_path: Path) -> None:
    done = viommu("run", "--record", tmp_path / "nowhere" / "run", "--", "echo", "here")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere" in done.stderr


def test_a_full_disk_ends_the_recording_and_not_the_program(client: Callable[[str], Path]) -> None:
    done = viommu("run", "--record", "/dev/full", "--", client("calls"), "ioctl")
    assert done.returncode == 0
    assert "/dev/full holds only the beginning: No space left on device" in done.stderr
