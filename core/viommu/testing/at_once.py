"""Several threads at once, between which the interpreter changes all the time."""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from viommu.errors import told
from viommu.kernel_errors import KernelError
from viommu.testing.rule import Broken, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS = 0.6
STUCK_AFTER = 60.0
SWITCH = 1e-6
"""Seconds after which the interpreter looks for another thread."""


@contextmanager
def often_switching() -> Iterator[None]:
    """Let threads take turns in the middle of what they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(acts: Sequence[Callable[[random.Random], object]], seconds: float = SECONDS) -> int:
    """Repeat each in a thread of its own; how often all did. Raises Broken for what a thread raises, or a deadlock."""
    wrong: list[BaseException] = []
    done = [0] * len(acts)
    until = time.monotonic() + seconds

    def repeat(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - what is chosen is no secret
        try:
            while time.monotonic() < until and not wrong:
                done[number] += 1
                try:
                    acts[number](chance)
                except KernelError:
                    continue
        except BaseException as error:  # noqa: BLE001 - it is told by the thread that asks
            wrong.append(error)

    with often_switching():
        threads = [threading.Thread(target=repeat, args=(number,), daemon=True) for number in range(len(acts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(STUCK_AFTER)
    stuck = sum(thread.is_alive() for thread in threads)
    expect(not stuck, f"{stuck} of {len(threads)} threads wait for ever")
    if wrong:
        raise wrong[0] if isinstance(wrong[0], Broken) else Broken(f"a thread has raised {told(wrong[0])}", {})
    return sum(done)


def together(threads: int, act: Callable[[int], None]) -> None:
    """Do something in so many threads at the same time, each with its number. Raises Broken for what one raises."""
    started, wrong = threading.Barrier(threads), list[BaseException]()

    def run(number: int) -> None:
        started.wait()
        try:
            act(number)
        except BaseException as error:  # noqa: BLE001 - it is told by the thread that asks
            wrong.append(error)

    with often_switching():
        running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(STUCK_AFTER)
    expect(not any(thread.is_alive() for thread in running), f"one of {threads} threads waits for ever")
    if wrong:
        raise wrong[0] if isinstance(wrong[0], Broken) else Broken(f"a thread has raised {told(wrong[0])}", {})
