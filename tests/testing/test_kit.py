"""The kit itself: good drivers pass, each broken promise is told by its rule, with what shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar
from xml.etree.ElementTree import fromstring

import pytest
from attrs import frozen

import viommu
from tests.core.toy import ACCESSED, ADDRESS, DIRTY, LEAF, PRESENT, WRITE, Device, Hardware, ToyDriver
from viommu.cli import main
from viommu.faults import Fault, Refusal, Report
from viommu.hookspecs import Decoded, DriverInfo
from viommu.io_page_table import TableShape
from viommu.ops import DeviceFacts
from viommu.testing import DriverContract, GuestKit, Options, Subject, conform
from viommu.testing.catalogue import AREAS, rules
from viommu.testing.report import as_json, as_junit, story
from viommu.testing.rule import CATALOGUE, Broken, Level, expect, rule
from viommu.testing.runner import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.faults import ConfigurationLog
    from viommu.formats import Context
    from viommu.hookspecs import HardwareModel, Registers
    from viommu.memory import PhysicalMemory

FEW = Options(effort=0.2)


SHAPE = TableShape(
    levels=3,
    table_flags=(PRESENT | WRITE,) * 3,
    leaf_flags=(PRESENT | ACCESSED, PRESENT | LEAF | ACCESSED, PRESENT | LEAF | ACCESSED),
    rights=(0, 0, WRITE | DIRTY, WRITE | DIRTY),
    address_mask=ADDRESS,
)


@frozen
class ToyByHand:
    """The toy's page tables, and its device table of 16 entries."""

    tables: TableShape = SHAPE

    def program(
        self, memory: PhysicalMemory, requester: int, root: int, take: Callable[[int], int]
    ) -> Mapping[str, int]:
        table = take(1)
        memory.write(table + 16 * requester, Device(Valid=1, Table=root, Domain=7).encode())
        return {"TABLE": table, "SIZE": 16}


KIT = GuestKit(requesters=(3, 5), bare=ToyByHand())


class ExplainingToy(ToyDriver):
    """The toy, which explains its events."""

    @viommu.hookimpl
    def viommu_kinds(self) -> Mapping[str, tuple[int, ...]]:
        return {"entry": (16,)}

    @viommu.hookimpl
    def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
        return Decoded(kind, "Device", Device.decode(raw), "an entry of the device table")


class TestToy(DriverContract):
    """A driver of a few lines, with no host side: what it has is asked, the rest is skipped."""

    driver = ExplainingToy()
    guest_kit = KIT
    effort = 0.2


def verdicts(driver: object, *wanted: str, kit: GuestKit = KIT, options: Options = FEW) -> dict[str, Verdict]:
    return {verdict.rule.id: verdict for verdict in conform(Subject.of(driver, kit), options, wanted)}


def broken(driver: object, number: str, kit: GuestKit = KIT, options: Options = FEW) -> Verdict:
    found = verdicts(driver, number, kit=kit, options=options)[number]
    assert found.outcome is Outcome.FAILED
    return found


def toy_with(hardware: type[Hardware]) -> ToyDriver:
    class Toy(ExplainingToy):
        @viommu.hookimpl
        def viommu_hardware(self, memory: PhysicalMemory, registers: Registers) -> HardwareModel:
            return hardware(memory, registers)

    return Toy()


def test_every_rule_is_asked_or_says_why_not() -> None:
    found = verdicts(ExplainingToy())
    assert len(found) == len(rules()) > 60
    skipped = [verdict for verdict in found.values() if verdict.outcome is Outcome.SKIPPED]
    assert all(verdict.reason for verdict in skipped)
    asked = set(found) - {verdict.rule.id for verdict in skipped}
    assert {"DRV-001", "LAY-001", "LAY-003", "TRN-001", "TRN-002", "TRN-004", "HST-005"} <= asked
    assert all(found[number].outcome is Outcome.PASSED for number in asked), [story(found[number]) for number in asked]


def test_translation_that_goes_elsewhere_is_shown_with_entries_and_walk() -> None:
    class Wrong(Hardware):
        def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
            found = super().configure(requester, pasid, log)
            return found if requester != 3 else super().configure(4, pasid, log)

    told = broken(toy_with(Wrong), "TRN-001")
    text = story(told)
    assert text.startswith("TRN-001 (must): An access goes where the page table leads")
    assert "smallest example: [Leaf(level=0, place=0, frame=0, write=False)]" in text
    assert "level 2 at 0x" in text
    assert "refused by the configuration, INVALID" in text


def test_hardware_that_raises_breaks_the_rule_that_was_asked() -> None:
    class Raising(Hardware):
        def report(self, fault: Fault) -> Report:  # noqa: ARG002
            raise ZeroDivisionError

    told = broken(toy_with(Raising), "HST-005")
    assert "report" in told.reason
    assert "ZeroDivisionError" in told.reason


def test_hardware_that_never_answers_is_told_after_a_while() -> None:
    class Hanging(Hardware):
        def report(self, fault: Fault) -> Report:  # noqa: ARG002
            while True:
                pass

    told = broken(toy_with(Hanging), "HST-005", options=Options(effort=0.2, seconds=0.5))
    assert "within 0.5 seconds" in told.reason


def test_a_driver_that_cannot_be_brought_up_breaks_rules_and_ends_nothing() -> None:
    class Unready(ExplainingToy):
        @viommu.hookimpl
        def viommu_probe(self) -> None:
            raise ZeroDivisionError

        @viommu.hookimpl
        def viommu_interrupt(self) -> None: ...

        @viommu.hookimpl
        def viommu_device_facts(self) -> DeviceFacts:
            return DeviceFacts()

        @viommu.hookimpl
        def viommu_alloc_paging(self) -> None:
            return None

        @viommu.hookimpl
        def viommu_attach(self) -> None:
            return None

        @viommu.hookimpl
        def viommu_detach(self) -> None: ...

        @viommu.hookimpl
        def viommu_free_domain(self) -> None: ...

    found = verdicts(Unready(), "DIR", "DRV")
    assert found["DRV-001"].outcome is Outcome.PASSED
    assert "viommu_probe" in found["DIR-001"].reason
    assert found["DIR-001"].outcome is Outcome.FAILED


def test_what_is_seen_once_alone_is_told_too() -> None:
    class Moody(Hardware):
        moods: ClassVar[list[bool]] = [False, True]

        def report(self, fault: Fault) -> Report:
            if self.moods and self.moods.pop():
                raise ZeroDivisionError
            return super().report(fault)

    assert "ZeroDivisionError" in broken(toy_with(Moody), "HST-005").reason


def test_an_explanation_that_loses_bits_is_told_with_the_bytes() -> None:
    class Losing(ExplainingToy):
        @viommu.hookimpl
        def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
            return Decoded(kind, "Device", Device.decode(raw[:15] + b"\0"), "an entry of the device table")

    told = broken(Losing(), "LAY-003")
    assert told.details["bytes"].endswith(" 01")
    assert told.details["encoded"].endswith(" 00")


def test_a_driver_that_says_another_thing_each_time_is_told() -> None:
    class Fickle(ToyDriver):
        times = 0

        @viommu.hookimpl
        def viommu_driver_info(self) -> DriverInfo:
            Fickle.times += 1
            return DriverInfo("toy", f"A toy, asked {self.times} times", requester_bits=8, pasid_bits=4)

    assert "different values" in broken(Fickle(), "DRV-001").reason


def test_a_driver_that_lets_guests_nest_and_says_not_how_is_told() -> None:
    class Nesting(ToyDriver):
        @viommu.hookimpl
        def viommu_alloc_nested_on(self) -> None:
            return None

    assert "viommu_alloc_nested_on" in broken(Nesting(), "DRV-004", kit=GuestKit()).reason


def test_what_a_driver_waives_is_skipped_with_its_reason() -> None:
    kit = GuestKit(requesters=(3, 5), waived={"DRV-001": "it is fickle by design"})
    found = verdicts(ExplainingToy(), "DRV-001", kit=kit)["DRV-001"]
    assert (found.outcome, found.reason) == (Outcome.SKIPPED, "the driver says: it is fickle by design")


def test_one_seed_asks_one_thing() -> None:
    class Wrong(Hardware):
        def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:  # noqa: ARG002
            return Refusal("ALL", 9)

    options = Options(effort=0.2, seed=5, shrink=False)
    first, second = (verdicts(toy_with(Wrong), "TRN-001", options=options)["TRN-001"] for _ in range(2))
    assert first.example == second.example


def test_a_rule_of_level_should_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CATALOGUE, "rules", dict(CATALOGUE.rules))

    @rule("DRV-999", "Drivers are written in verse.", source="nobody", level=Level.SHOULD)
    def in_verse(subject: Subject) -> None:  # noqa: ARG001
        expect(False, "it is prose", where=lambda: "everywhere")

    found = verdicts(ExplainingToy(), "DRV-999")["DRV-999"]
    assert (found.outcome, found.details) == (Outcome.WARNED, {"where": "everywhere"})


def test_two_rules_have_two_ids() -> None:
    with pytest.raises(ValueError, match="DRV-001"):
        rule("DRV-001", "", source="")(lambda _: None)


def test_ids_are_of_known_areas_and_texts_are_sentences() -> None:
    for known in rules():
        assert known.area in AREAS
        assert known.text.endswith(".")
        assert known.source


def test_a_rule_that_is_not_there_is_named() -> None:
    with pytest.raises(viommu.ViommuError, match="INV-777"):
        verdicts(ExplainingToy(), "INV-777")


def test_reports_for_programs_have_every_rule() -> None:
    found = list(verdicts(ExplainingToy(), "DRV", "PAG").values())
    told = as_json("toy", found)
    assert json.loads(json.dumps(told)) == told
    suite = fromstring(as_junit("toy", found))  # noqa: S314 - of our own making
    assert int(suite.get("tests", "")) == len(found) == len(suite.findall("testcase"))
    assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped")) > 0


def test_the_command_tells_rules_and_sums(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert main(["conform", "vtd", "--rule", "DRV", "--junit", f"{tmp_path}/report.xml"]) == 0
    assert "DRV-001  passed" in (told := capsys.readouterr().out)
    assert told.splitlines()[-1] == f"vtd: {len(rules(('DRV',)))} passed"
    assert main(["conform", "vtd", "--rule", "DRV-002", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["passed"] == 1


def test_an_unknown_driver_or_rule_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "nobody"]) == 2
    assert main(["conform", "vtd", "--rule", "X"]) == 2
    assert "rule 'X' is not" in capsys.readouterr().err


def test_details_are_made_only_for_what_is_broken() -> None:
    def never() -> str:
        raise AssertionError

    expect(True, "fine", detail=never)
    with pytest.raises(Broken):
        expect(False, "broken", detail="made")
