"""What every test shares: how hard Hypothesis tries, and which build of the engine is tested."""

from __future__ import annotations

import importlib.util
import os
import sys
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _no_logging_is_left_behind() -> Iterator[None]:
    """Undo what a command sets up for its process: its standard error is closed once the command was tested."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def at_once() -> Callable[[int, Callable[[int], object]], None]:
    """Give what lets so many threads begin at the same time, and often take turns in the middle of what they do."""
    return _at_once


def _at_once(threads: int, act: Callable[[int], object]) -> None:
    started, interval = Barrier(threads), sys.getswitchinterval()

    def run(number: int) -> None:
        started.wait()
        act(number)

    sys.setswitchinterval(1e-5)
    try:
        running = [Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def _use_engine(path: str) -> None:
    spec = importlib.util.spec_from_file_location("viommu._engine", path)
    assert spec is not None
    assert spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = engine
    spec.loader.exec_module(engine)


if "VIOMMU_ENGINE" in os.environ:  # `make sanitize`: another build takes the installed one's place
    _use_engine(os.environ["VIOMMU_ENGINE"])

# Machines are shared, so a slow example says nothing. CI tries the same examples each time: what it says of a change is
# of that change.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.register_profile(
    "long",
    settings.get_profile("default"),
    derandomize=False,
    max_examples=int(os.environ.get("VIOMMU_LONG_EXAMPLES", "20000")),
    print_blob=True,
)
settings.load_profile("default")
