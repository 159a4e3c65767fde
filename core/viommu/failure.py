"""Injected failures: `allocation_point` stands wherever the kernel could fail."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define

from viommu.kernel_errors import BadAddress, Invalid, KernelError, NoMemory, NotThere

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Injection",
    "allocation_point",
    "fail_nth",
]

_ERRORS: dict[int, type[KernelError]] = {
    errno.ENOMEM: NoMemory,
    errno.ENOENT: NotThere,
    errno.EFAULT: BadAddress,
    errno.EINVAL: Invalid,
}


@define
class Injection:
    """Counts the failure points of one thread; ``happened`` once the n-th has failed."""

    nth: int
    passed: int = 0
    happened: bool = False


_injections: dict[int, Injection] = {}  # by thread; empty nearly always, which costs one truth test


def allocation_point(what: str, code: int = errno.ENOMEM) -> None:
    """Stand where the kernel could fail, with the errno that it would give. Raises KernelError if told to."""
    if _injections:
        _count(what, code)


def _count(what: str, code: int) -> None:
    injection = _injections.get(threading.get_ident())
    if injection is None or injection.happened:
        return
    injection.passed += 1
    if injection.passed == injection.nth:
        injection.happened = True
        raise _ERRORS[code](what, bound="an injected failure")


@contextmanager
def fail_nth(nth: int) -> Iterator[Injection]:
    """Let the n-th failure point (from 1) that this thread meets fail."""
    injection = Injection(nth)
    thread = threading.get_ident()
    _injections[thread] = injection
    try:
        yield injection
    finally:
        del _injections[thread]
