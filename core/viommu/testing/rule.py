"""Rules: what the kit asks, each an object with an id that never changes its meaning."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from viommu.errors import told
from viommu.kernel_errors import NAMES, KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    from viommu.testing.subject import Subject

    Check = Callable[..., str | None]
    Plan = Callable[[Subject], SearchStrategy[Any]]

    Detail = str | Callable[[], object]

__all__ = [
    "Broken",
    "Inapplicable",
    "Level",
    "Need",
    "Rule",
    "expect",
    "refusing",
    "rule",
]


class Level(Enum):
    """How binding a rule is."""

    MUST = "must"
    SHOULD = "should"
    """What breaks it works, but not as well as it could: a warning, no failure."""


class Need(Enum):
    """What a driver has to have for a rule to be asked."""

    LIVE = "hardware with registers"
    BARE = "description of how it is programmed by hand (GuestKit.bare)"
    HOST = "host side (viommu_alloc_paging, viommu_attach)"
    DIRTY = "dirty tracking (viommu_read_dirty, DeviceFacts.dirty_tracking)"
    PASIDS = "PASIDs (DeviceFacts.max_pasids)"
    ATS = "devices with ATS (DeviceFacts.ats)"
    PAGE_REQUESTS = "devices that ask for pages (GuestKit.features, viommu_page_response)"
    KINDS = "bytes that it explains (viommu_kinds)"
    LOG_LINES = "kernel log lines that it knows (viommu_log_line)"
    NESTING = "guests (GuestKit.nesting)"
    VIOMMU = "vIOMMUs (Nesting.viommu)"
    REQUESTS = "invalidation requests of guests (Space.drop)"
    QUEUES = "hardware queues for guests (Nesting.queues)"
    FENCES = "completion stores of guests (GuestKit.fences)"
    EVENTS = "events for guests (Nesting.events)"


class Broken(AssertionError):
    """A rule is broken: what was seen, and what belongs to it (bytes, a history, an explained walk)."""

    def __init__(self, message: str, details: Mapping[str, str]) -> None:
        super().__init__(message)
        self.message, self.details = message, details


class Inapplicable(Exception):
    """A rule that turns out not to apply: the reason."""


@frozen
class Rule:
    """One rule. ``source`` says who promises it: a hook's ``Owes``, a specification's section, the kernel.

    ``plan`` gives what `check` draws its examples from, ``examples`` of them at effort 1; None: it is asked once.
    `check` raises `Broken`, or `Inapplicable`, and may return a figure to report.
    """

    id: str
    text: str
    source: str
    check: Check = field(repr=False)
    level: Level = Level.MUST
    needs: tuple[Need, ...] = ()
    plan: Plan | None = field(default=None, repr=False)
    examples: int = 1

    @property
    def area(self) -> str:
        """The letters before the number."""
        return self.id.partition("-")[0]


@define
class Catalogue:
    """All rules, by id."""

    rules: dict[str, Rule] = field(factory=dict)

    def add(self, made: Rule) -> None:
        """Take a rule. Raises ValueError where the id is taken."""
        if made.id in self.rules:
            raise ValueError(f"two rules are called {made.id}")
        self.rules[made.id] = made


CATALOGUE = Catalogue()


def rule(
    number: str,
    text: str,
    *,
    source: str,
    needs: tuple[Need, ...] = (),
    level: Level = Level.MUST,
    plan: Plan | None = None,
    examples: int = 1,
) -> Callable[[Check], Check]:
    """Make a rule of a check."""

    def made(check: Check) -> Check:
        CATALOGUE.add(Rule(number, text, source, check, level, needs, plan, examples))
        return check

    return made


def expect(condition: object, message: str, **details: Detail) -> None:
    """Raise Broken unless a condition holds. Details are made only then, if they are to be called."""
    if not condition:
        raise Broken(message, {name.replace("_", " "): _told(value) for name, value in details.items()})


@contextmanager
def refusing(*kinds: type[KernelError]) -> Iterator[None]:
    """Expect a call to be refused, with one of these errnos."""
    names = " or ".join(NAMES.get(kind.code) or errno.errorcode[kind.code] for kind in kinds)
    try:
        yield
    except kinds:
        return
    except KernelError as error:
        raise Broken(f"it is refused as {error}, where the errno has to be {names}", {}) from error
    raise Broken(f"it is not refused, where it has to be, with {names}", {})


def _told(detail: Detail) -> str:
    try:
        return str(detail()) if callable(detail) else detail
    except Exception as error:  # noqa: BLE001 - a broken driver cannot be explained either
        return f"it cannot be told: {told(error)}"
