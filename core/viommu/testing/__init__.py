"""The conformance kit: what a driver owes, asked by rules with ids.

In tests of a driver: ``class TestMine(DriverContract): driver = my_module.driver``. With no code:
``viommu conform NAME``. What the kit cannot know of a driver, the driver says in a `GuestKit`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from viommu.testing.guest_kit import Bare, Events, Fences, GuestKit, GuestMemory, Nesting, Queue, Queues, Space

if TYPE_CHECKING:
    from viommu.testing.contract import DriverContract
    from viommu.testing.runner import Options, Verdict, conform
    from viommu.testing.subject import Subject

_HOMES = {
    "DriverContract": "contract",
    "Options": "runner",
    "Subject": "subject",
    "Verdict": "runner",
    "conform": "runner",
}
"""Fetched when they are asked for: they import pytest and hypothesis, which a driver that is only used does without."""

__all__ = [
    "Bare",
    "DriverContract",
    "Events",
    "Fences",
    "GuestKit",
    "GuestMemory",
    "Nesting",
    "Options",
    "Queue",
    "Queues",
    "Space",
    "Subject",
    "Verdict",
    "conform",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"viommu.testing.{_HOMES[name]}"), name)
