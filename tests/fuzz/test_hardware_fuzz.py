"""A short campaign against every vendor's live model; `make fuzz` runs long ones."""

from __future__ import annotations

import pytest

from tests.fuzz.hardware_fuzz import MODELS, campaign


@pytest.mark.parametrize("driver", sorted(MODELS))
def test_no_software_breaks_the_hardware(driver: str) -> None:
    assert campaign(driver, 1, worlds=40) == 40
