"""Where the driver and its recordings are, when it is tested in its folder; a machine with a host's driver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "src"))

from hosts import Host  # noqa: E402 # only now is it found

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    with made.machine:
        yield made
