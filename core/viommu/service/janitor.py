"""Files that are to go with this process, however it ends."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from shutil import which
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger()

SHELL = "sh"
SWEEP = 'read _; rm -rf -- "$@"'
"""A pipe that nobody writes to ends when the process does that holds its other end: SIGKILL included."""


@contextmanager
def swept(*paths: Path) -> Iterator[None]:
    """Have paths removed at the end of the block; or by another process, once this one is gone."""
    command = [which(SHELL) or SHELL, "-c", SWEEP, SHELL, *(str(path.absolute()) for path in paths)]
    nowhere = subprocess.DEVNULL
    try:
        janitor = subprocess.Popen(  # noqa: S603 - the shell, and our own words
            command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
    except OSError as error:
        log.warning("what is left if this process is killed will not be removed", reason=str(error))
        yield
        return
    with janitor:
        yield
