"""Verdicts for people and for programs: text, JSON, JUnit's XML."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from viommu.testing.runner import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.testing.runner import Verdict

__all__ = ["as_json", "as_junit", "counted", "story"]


def counted(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Say how many rules came to each outcome."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return {outcome.value: found[outcome] for outcome in Outcome}


def story(verdict: Verdict) -> str:
    """Tell of one rule that is broken: the rule, what was seen, the smallest example, and what belongs to it."""
    rule = verdict.rule
    lines = [f"{rule.id} ({rule.level.value}): {rule.text}", f"source: {rule.source}", f"broken: {verdict.reason}"]
    if verdict.example:
        lines.append(f"smallest example: {verdict.example}")
    for name, detail in verdict.details.items():
        lines += [f"{name}:", *(f"  {line}" for line in detail.splitlines())]
    return "\n".join(lines)


def as_json(driver: str, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Give all of it as JSON has it."""
    return {
        "driver": driver,
        "counts": counted(verdicts),
        "rules": [
            {
                "id": verdict.rule.id,
                "level": verdict.rule.level.value,
                "text": verdict.rule.text,
                "source": verdict.rule.source,
                "outcome": verdict.outcome.value,
                "reason": verdict.reason,
                "example": verdict.example,
                "details": verdict.details,
                "note": verdict.note,
                "seconds": round(verdict.seconds, 3),
            }
            for verdict in verdicts
        ],
    }


def as_junit(driver: str, verdicts: Sequence[Verdict]) -> str:
    """Give all of it as JUnit's XML, which CI systems read."""
    counts = counted(verdicts)
    suite = Element(
        "testsuite",
        name=f"viommu conform {driver}",
        tests=str(len(verdicts)),
        failures=str(counts["failed"]),
        skipped=str(counts["skipped"]),
        errors="0",
        time=f"{sum(verdict.seconds for verdict in verdicts):.3f}",
    )
    for verdict in verdicts:
        case = SubElement(
            suite,
            "testcase",
            classname=f"{driver}.{verdict.rule.area}",
            name=f"{verdict.rule.id} {verdict.rule.text}",
            time=f"{verdict.seconds:.3f}",
        )
        if verdict.outcome is Outcome.SKIPPED:
            SubElement(case, "skipped", message=_printable(verdict.reason))
        elif verdict.outcome is Outcome.FAILED:
            SubElement(case, "failure", message=_printable(verdict.reason)).text = _printable(story(verdict))
        elif verdict.outcome is Outcome.WARNED:
            SubElement(case, "system-out").text = _printable(story(verdict))
    indent(suite)
    return tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    """XML holds no control characters."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
