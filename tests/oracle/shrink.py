"""Makes a difference between engine and oracle small, and tells it to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from attrs import define, evolve

from .compare import nonzero_words, walk_both
from .memory import PAGE, Memory
from .stage import PRIVILEGED, UndecidedError

if TYPE_CHECKING:
    from .walker import Context


@define
class Case:
    """One walk that the two walkers judge differently."""

    words: dict[int, int]
    pages: dict[int, bool]
    context: Context
    iova: int
    access: int
    trait: str = ""

    @classmethod
    def of(cls, memory: Memory, context: Context, iova: int, access: int) -> Case:
        """The walk of ``iova`` in ``memory`` as it is."""
        case = cls(nonzero_words(memory), memory.pages, context, iova, access)
        case.trait = case.differing()
        return case

    def memory(self) -> Memory:
        """A fresh memory."""
        memory = Memory()
        memory.pages = dict(self.pages)
        memory.words = dict(self.words)
        return memory

    def differing(self) -> str:
        """In what the walkers disagree; shrinking must not turn one disagreement into another."""
        try:
            found = walk_both(self.memory(), self.context, self.iova, self.access)
        except (ValueError, UndecidedError):  # a parameter that only goes with another, or no one answer
            return ""
        return f"{found['kind']}" if "kind" in found else " ".join(name.split("[")[0] for name in found)


def shrink(case: Case) -> Case:
    """The smallest case found by taking away words, bits, options and pages."""
    case = _fewer_words(case)
    case = _fewer_bits(case)
    case = _simpler_access(case)
    case = _fewer_options(case)
    return _fewer_pages(case)


def _keep(case: Case, tried: Case) -> Case:
    return tried if tried.differing() == case.trait else case


def _fewer_words(case: Case) -> Case:
    for pa in case.words:
        case = _keep(case, evolve(case, words={kept: word for kept, word in case.words.items() if kept != pa}))
    return case


def _fewer_bits(case: Case) -> Case:
    for pa in case.words:
        for bit in range(64):
            if case.words[pa] >> bit & 1:
                case = _keep(case, evolve(case, words=case.words | {pa: case.words[pa] ^ 1 << bit}))
    return case


def _simpler_access(case: Case) -> Case:
    for bit in reversed(range(64)):
        if case.iova >> bit & 1:
            case = _keep(case, evolve(case, iova=case.iova ^ 1 << bit))
    return _keep(case, evolve(case, access=case.access & ~PRIVILEGED))


def _fewer_options(case: Case) -> Case:
    for stage in ("stage1", "stage2"):
        chosen = getattr(case.context, stage)
        for option in attrs.fields(type(chosen)) if chosen is not None else ():
            if getattr(chosen, option.name) is True:
                simpler = evolve(getattr(case.context, stage), **{option.name: False})
                case = _keep(case, evolve(case, context=evolve(case.context, **{stage: simpler})))
    case = _keep(case, evolve(case, context=evolve(case.context, blocked_output=None)))
    return _keep(case, evolve(case, context=evolve(case.context, rights=7)))


def _fewer_pages(case: Case) -> Case:
    return _keep(case, evolve(case, pages={pa & -PAGE: case.pages[pa & -PAGE] for pa in case.words}))


def report(case: Case) -> str:
    """What to build, what was asked, and what each walker says."""
    found = walk_both(case.memory(), case.context, case.iova, case.access)
    lines = [f"  {pa:#x}: {word:#018x}" for pa, word in case.words.items()]
    lines += [f"  read-only page {page:#x}" for page, writable in case.pages.items() if not writable]
    lines += [str(case.context), f"walk(iova={case.iova:#x}, access={case.access}): engine / oracle"]
    lines += [f"  {name}: {actual:#x} / {expected:#x}" for name, (actual, expected) in found.items()]
    return "\n".join(["memory:", *lines])
