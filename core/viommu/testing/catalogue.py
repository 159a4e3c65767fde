"""All rules, in the order of their ids."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from viommu.errors import BadValue
from viommu.testing import rules as package
from viommu.testing.rule import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.testing.rule import Rule

AREAS = {
    "DRV": "What a driver says of itself",
    "LAY": "Layouts and explained bytes",
    "HWD": "Hardware",
    "TRN": "Translation by tables that are programmed by hand",
    "PAG": "Paging domains: an IOAS and its page tables",
    "DIR": "Dirty tracking",
    "OBJ": "Objects: orders of making and destroying",
    "ERR": "What is refused, and how",
    "NST": "Nested translation",
    "INV": "Invalidation",
    "QUE": "Queues",
    "FLT": "Faults and events",
    "ISO": "Isolation between guests",
    "HST": "Hostile software",
    "LEK": "Leaks, and failures half way",
    "THR": "Threads",
    "DET": "Determinism",
}
"""Areas by the letters of their rules' ids, in their order."""


def rules(wanted: Iterable[str] = ()) -> list[Rule]:
    """Give the rules with these ids (or whose area has these letters); all where none are wanted. Raises BadValue."""
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    order = list(AREAS)
    known = sorted(CATALOGUE.rules.values(), key=lambda rule: (order.index(rule.area), rule.id))
    chosen = [name.upper() for name in wanted]
    for name in chosen:
        if not any(name in {rule.id, rule.area} for rule in known):
            raise BadValue("rule", name, f"one of {known[0].id} ... {known[-1].id}, or an area: {', '.join(AREAS)}")
    return [rule for rule in known if not chosen or {rule.id, rule.area} & set(chosen)]
