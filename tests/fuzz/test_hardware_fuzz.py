"""Campaigns against every vendor's live model: short ones here, FUZZ_SECONDS each in `make fuzz`, under sanitizers."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.hardware_fuzz import MODELS, WORLD_STEPS, campaign

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
FUZZ_SEED = int(os.environ.get("FUZZ_SEED", "1000000"))


@pytest.mark.parametrize("driver", sorted(MODELS))
def test_no_software_breaks_the_hardware(driver: str) -> None:
    assert campaign(driver, 1, worlds=40) == 40


@pytest.mark.long
@pytest.mark.parametrize("driver", sorted(MODELS))
def test_no_software_breaks_the_hardware_in_a_long_time(driver: str, capsys: pytest.CaptureFixture[str]) -> None:
    worlds = campaign(driver, FUZZ_SEED, seconds=FUZZ_SECONDS)

    with capsys.disabled():
        print(f"\n{driver}: {worlds} worlds of {WORLD_STEPS} steps, from seed {FUZZ_SEED} on")  # noqa: T201
    assert worlds
