"""Runs the command, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = 0
BAD_INPUT = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As the shell says of a program that a signal ended, SIGINT and SIGPIPE."""

COMPLETION = "_VIOMMU_COMPLETE"
"""What click's shell completion sets."""

DEBUG = "VIOMMU_DEBUG"
"""Set it to see where an error comes from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `viommu` with the given arguments (None: those of the process) and give its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if _was_interrupted(error):
            return INTERRUPTED
        if os.environ.get(DEBUG):
            raise
        _flush_or_silence()
        return _told(error)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    # Imported here, so that a missing engine is told in one line as well.
    import click  # noqa: PLC0415

    from viommu.cli.app import app  # noqa: PLC0415

    if COMPLETION in os.environ:
        app.main(prog_name="viommu")
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Not app.main(): on a closed pipe that leaves with 1, which means a disagreement here.
        with app.make_context("viommu", given) as context:
            code = app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _say(error.format_message())
    return code if isinstance(code, int) else GOOD


def _was_interrupted(error: BaseException) -> bool:
    """Say whether an interrupt is behind it: an extension that is being imported turns one into an ImportError."""
    before = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (before is not None and _was_interrupted(before))


def _told(error: Exception) -> int:
    from viommu.errors import ViommuError, told  # noqa: PLC0415

    if isinstance(error, OSError):
        return _say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or told(error))
    if isinstance(error, ViommuError | ImportError):
        return _say(str(error))
    return _say(f"internal error, {told(error)} (set {DEBUG}=1 to see where)")


def _say(message: str) -> int:
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(message.split()))
    print(f"viommu: {line}", file=sys.stderr)  # noqa: T201
    return BAD_INPUT


def _flush_or_silence() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Keep the interpreter from flushing, at exit, what nobody will read."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass
