"""A guest for each test."""

from __future__ import annotations

import mmap

import pytest

from plugins.vtd.tests.guest import RAM, RAM_SIZE, Guest
from viommu.memory import PhysicalMemory


@pytest.fixture
def guest() -> Guest:
    memory = PhysicalMemory()
    memory.place(RAM, mmap.mmap(-1, RAM_SIZE))
    return Guest(memory)
