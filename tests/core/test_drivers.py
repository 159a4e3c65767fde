from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import viommu
from tests.core.installed import Shelf
from tests.core.toy import Device, NamedToy, ToyDriver
from viommu import drivers
from viommu.board import Board
from viommu.drivers import LIVE_METHODS, bind, bind_plugin, discover
from viommu.errors import BadRegister, BadValue, BrokenDriver, DriverBug, UnknownDriver
from viommu.hookspecs import DriverInfo, HardwareModel, LiveHardware, Registers
from viommu.memory import PhysicalMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Install = Callable[..., None]


MEMORY = PhysicalMemory()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install drivers, and nothing else, for one test."""
    shelf = Shelf()
    monkeypatch.setattr(drivers, "entry_points", shelf)
    return shelf.install


def test_a_driver_is_found_by_its_entry_point(install: Install) -> None:
    install("toy", ToyDriver())

    found = discover()

    assert [driver.info.title for driver in found.working] == ["A toy"]
    assert found.working[0].origin == drivers.Origin("toy", "toy-dist", "1.2")
    assert found.broken == ()


def test_a_bound_driver_makes_hardware_and_gives_its_layouts(install: Install) -> None:
    install("toy", ToyDriver())

    toy = bind("toy")

    assert toy.layouts() == {"Device": Device}
    assert callable(toy.hardware(MEMORY, Registers(), Board(MEMORY)).configure)


def test_binding_one_driver_loads_no_other(install: Install) -> None:
    install("toy", ToyDriver())
    install("bad", AssertionError("was loaded"), "bad-dist")

    assert bind("toy").info.name == "toy"


def test_a_driver_that_nobody_installed_is_told_with_those_that_are(install: Install) -> None:
    install("toy", ToyDriver())

    with pytest.raises(UnknownDriver, match=r"no driver named 'riscv' is installed \(installed: toy\)"):
        bind("riscv")


class OtherVersion(ToyDriver):
    hookspec_version = 99


class Misspelt(ToyDriver):
    @viommu.hookimpl
    def viommu_hardwear(self) -> None: ...


class WrongSignature(ToyDriver):
    @viommu.hookimpl
    def viommu_hardware(self, memory: PhysicalMemory, colour: str) -> HardwareModel:  # type: ignore[override]
        raise NotImplementedError


class NoHardware:
    hookspec_version = viommu.HOOKSPEC_VERSION

    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("toy", "A toy", 8, 4)


class NoInfo(ToyDriver):
    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return "toy"  # type: ignore[return-value]


class RaisesInfo(ToyDriver):
    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        raise ZeroDivisionError("oh\nno")


class OtherName(ToyDriver):
    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("tey", "A toy", 8, 4)


class TooWide(ToyDriver):
    @viommu.hookimpl
    def viommu_driver_info(self) -> DriverInfo:
        return DriverInfo("toy", "A toy", 8, 21)


class NothingToUndo(ToyDriver):
    @viommu.hookimpl
    def viommu_alloc_paging(self) -> None: ...

    @viommu.hookimpl
    def viommu_attach(self) -> None: ...


class KeepsDevices(ToyDriver):
    @viommu.hookimpl
    def viommu_probe_device(self) -> None: ...


class Trapped:
    @property
    def hookspec_version(self) -> int:
        raise SystemError("boom")


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (ImportError("no module named numpi"), "loading bad-dist.driver failed: ImportError: no module named numpi"),
        (SystemExit(3), "loading bad-dist.driver failed: SystemExit: 3"),
        (object(), "its hookspec_version is None, this viommu speaks 1"),
        (OtherVersion(), "its hookspec_version is 99, this viommu speaks 1"),
        (Misspelt(), "viommu_hardwear"),
        (WrongSignature(), "colour"),
        (NoHardware(), "it does not implement viommu_hardware, viommu_layouts"),
        (NoInfo(), "viommu_driver_info returned str, not DriverInfo"),
        (RaisesInfo(), "viommu_driver_info raised ZeroDivisionError: oh no"),
        (OtherName(), "viommu_driver_info says 'tey', its entry point 'toy'"),
        (TooWide(), "DriverInfo.pasid_bits is 21, not 0 to 20"),
        (
            NothingToUndo(),
            "it implements viommu_alloc_paging, but not viommu_device_facts, viommu_detach, viommu_free_domain, which",
        ),
        (KeepsDevices(), "it implements viommu_probe_device, but not viommu_release_device, which"),
        (Trapped(), "SystemError: boom"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_broken_driver_is_named_with_its_reason_and_hides_no_other(
    install: Install, plugin: object, reason: str
) -> None:
    install("another", NamedToy("another"), "good-dist")
    install("toy", plugin, "bad-dist")

    found = discover()

    assert [driver.info.name for driver in found.working] == ["another"]
    [error] = found.broken
    assert (error.name, error.distribution, error.version) == ("toy", "bad-dist", "1.2")
    assert reason in error.reason
    assert "\n" not in str(error)
    with pytest.raises(BrokenDriver, match=r"driver toy of bad-dist 1\.2 cannot be used"):
        bind("toy")


def test_two_distributions_that_offer_one_name_are_both_told(install: Install) -> None:
    install("toy", ToyDriver(), "first-dist")
    install("toy", ToyDriver(), "second-dist")

    with pytest.raises(BrokenDriver, match=r"toy of first-dist .*: second-dist offers a driver of the same name"):
        bind("toy")


class WrapsHardware:
    """Says what passed by."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, int]] = []

    @viommu.hookimpl(wrapper=True)
    def viommu_hardware(self, registers: Registers) -> Iterator[None]:
        self.seen.append(registers.values)
        return (yield)


def test_a_wrapper_sees_what_reaches_the_driver() -> None:
    wrapper = WrapsHardware()
    toy = bind_plugin(ToyDriver(), [wrapper])

    toy.hardware(MEMORY, Registers({"SIZE": 3}), Board(MEMORY))

    assert wrapper.seen == [{"SIZE": 3}]


def test_a_plugin_that_would_answer_in_the_drivers_place_is_no_wrapper() -> None:
    with pytest.raises(BadValue, match=r"only made of wrappers: its viommu_\w+ lacks wrapper=True"):
        bind_plugin(ToyDriver(), [ToyDriver()])


def test_a_bound_driver_hears_of_no_hook_that_another_answers() -> None:
    mine, other = ToyDriver(), ToyDriver()
    bound = bind_plugin(mine)
    bind_plugin(other)

    assert [impl.plugin for impl in bound._manager.hook.viommu_hardware.get_hookimpls()] == [mine]


class Giving(ToyDriver):
    """Gives whatever it is told to as its hardware."""

    def __init__(self, given: object) -> None:
        self.given = given

    @viommu.hookimpl
    def viommu_hardware(self) -> HardwareModel:  # type: ignore[override]
        if isinstance(self.given, Exception):
            raise self.given
        return self.given  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "driver toy broke its promise in viommu_hardware: it returned None where it owes a value"),
        (KeyError("TABLE"), "driver toy broke its promise in viommu_hardware: KeyError: 'TABLE'"),
        (object(), r"driver toy broke its promise in viommu_hardware: a object has no configure\(\)"),
    ],
)
def test_a_broken_promise_names_the_driver_and_the_hook(given: object, message: str) -> None:
    with pytest.raises(DriverBug, match=message):
        bind_plugin(Giving(given)).hardware(MEMORY, Registers(), Board(MEMORY))


def test_a_register_that_a_driver_refuses_is_told_as_it_says() -> None:
    refusal = BadRegister("SIZE", 0x99, "at most 16 entries")

    with pytest.raises(BadRegister, match="register SIZE 0x99: at most 16 entries"):
        bind_plugin(Giving(refusal)).hardware(MEMORY, Registers(), Board(MEMORY))


def test_the_methods_that_live_hardware_must_have_are_those_of_the_protocol() -> None:
    own = set(HardwareModel.__dict__)
    declared = {name for name in LiveHardware.__dict__ if not name.startswith("_") and name not in own}

    assert set(LIVE_METHODS) == declared


@pytest.mark.parametrize("lacking", LIVE_METHODS)
def test_hardware_with_registers_that_lacks_a_method_is_not_taken_for_one_without(lacking: str) -> None:
    methods = {"configure": len, "report": len} | {name: len for name in LIVE_METHODS if name != lacking}
    hardware = type("Dart", (), methods)()

    with pytest.raises(DriverBug, match=rf"a Dart has (read|write).*, but lacks {lacking} of LiveHardware"):
        bind_plugin(Giving(hardware)).hardware(MEMORY, Registers(), Board(MEMORY))
