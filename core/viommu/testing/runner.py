"""Asks a driver: each rule that applies, with examples that Hypothesis draws and shrinks."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from viommu.errors import told
from viommu.testing.catalogue import rules
from viommu.testing.hang import Hang, ended_after
from viommu.testing.rule import Broken, Inapplicable, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from viommu.testing.rule import Rule
    from viommu.testing.subject import Subject

__all__ = ["Options", "Outcome", "Verdict", "conform"]

SHRINK_SECONDS = 20.0
"""How long a counterexample is made smaller."""


class Outcome(Enum):
    """What came of a rule."""

    PASSED = "passed"
    SKIPPED = "skipped"
    WARNED = "warned"
    """A rule of level SHOULD is broken."""
    FAILED = "failed"


@frozen
class Options:
    """How hard a driver is asked: ``effort`` times the examples that each rule asks for, drawn from ``seed``."""

    effort: float = 1.0
    seed: int = 0
    shrink: bool = True
    seconds: float = 120.0
    """How long one rule may take; what takes longer hangs. Only the main thread can tell."""


@frozen
class Verdict:
    """What came of one rule. ``reason``: why it was skipped, or what is broken; ``details`` belong to that.

    ``example``: the smallest plan that shows it; ``note``: a figure that the rule reports.
    """

    rule: Rule
    outcome: Outcome
    reason: str = ""
    details: dict[str, str] = field(factory=dict)
    example: str = ""
    note: str = ""
    seconds: float = 0.0


def conform(subject: Subject, options: Options | None = None, wanted: Iterable[str] = ()) -> Iterator[Verdict]:
    """Ask a driver every rule, or the ``wanted`` ones, in the order of their ids. Raises BadValue (no such rule)."""
    for asked in rules(wanted):
        yield ask(subject, asked, options or Options())


def ask(subject: Subject, asked: Rule, options: Options) -> Verdict:
    """Ask one rule."""
    began = time.monotonic()
    run = Run(subject, asked, options)
    try:
        with ended_after(options.seconds):
            reason = subject.why_not(asked)
            if reason is not None:
                raise Inapplicable(reason)  # noqa: TRY301 - as one that is found later
            run.all()
    except Inapplicable as why:
        return Verdict(asked, Outcome.SKIPPED, str(why), seconds=time.monotonic() - began)
    except Hang as error:
        return _broken(asked, run, began, str(error), {})
    except Flaky as error:
        reason, details = _seen(run.seen or error)
        return _broken(asked, run, began, f"{reason} (not each time)", details)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises breaks the rule that was asked
        return _broken(asked, run, began, *_seen(error))
    return Verdict(asked, Outcome.PASSED, note=run.note, seconds=time.monotonic() - began)


def _broken(asked: Rule, run: Run, began: float, reason: str, details: dict[str, str]) -> Verdict:
    outcome = Outcome.FAILED if asked.level is Level.MUST else Outcome.WARNED
    return Verdict(asked, outcome, reason, details, run.example, run.note, time.monotonic() - began)


@define
class Run:
    """One rule that is being asked. A counterexample is made smaller for a while, and then asked once more."""

    subject: Subject
    asked: Rule
    options: Options
    example: str = ""
    note: str = ""
    seen: BaseException | None = None
    """What was raised last."""
    _failing: set[str] = field(factory=set)
    _until: float = float("inf")

    def all(self) -> None:
        """Ask all examples. Raises what the check raises of the smallest."""
        plan = self.asked.plan
        if plan is None:
            self.note = self.asked.check(self.subject) or ""
            return
        self._settled(given(plan(self.subject))(self._one))()

    def _one(self, plan: object) -> None:
        known = repr(plan)
        if time.monotonic() > self._until and known not in self._failing:
            return
        self.example = known
        try:
            self.note = self.asked.check(self.subject, plan) or self.note
        except Inapplicable:
            raise
        except BaseException as error:
            self.seen = error
            self._failing.add(known)
            self._until = min(self._until, time.monotonic() + SHRINK_SECONDS)
            raise

    def _settled(self, test: Callable[..., Any]) -> Callable[..., Any]:
        phases = [Phase.generate, *([Phase.shrink] if self.options.shrink else [])]
        chosen = settings(
            max_examples=max(round(self.asked.examples * self.options.effort), 1),
            phases=phases,
            database=None,
            deadline=None,
            derandomize=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        return seed(self.options.seed)(chosen(test))


def _seen(error: BaseException) -> tuple[str, dict[str, str]]:
    """Give what to tell of it, and what belongs to that."""
    return (error.message, dict(error.details)) if isinstance(error, Broken) else (f"it raised {told(error)}", {})
