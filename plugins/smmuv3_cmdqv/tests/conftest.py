"""A guest for each test."""

from __future__ import annotations

import pytest

from plugins.smmuv3_cmdqv.tests.guest import Guest


@pytest.fixture
def guest() -> Guest:
    return Guest()
