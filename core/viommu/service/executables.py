"""Which programs a library can be preloaded into: found out before one is started, so that the reason can be told."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import struct
from contextlib import suppress
from pathlib import Path

__all__ = ["why_not_preloadable"]

HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
MAGIC, CLASS_64, LITTLE_ENDIAN = b"\x7fELF", 2, 1
PT_INTERP = 3
MACHINES = {"x86_64": 62, "aarch64": 183}
HEAD_BYTES = 64 * 1024
"""As much of a file is looked at; program headers and the loader's name come first."""
MOST_HEADERS = 256
MOST_INTERPRETERS = 5
"""As Linux has it: a script may be interpreted by a script, and so on."""
LINE_BYTES = 256
"""Of a script's first line, as Linux reads it."""


def why_not_preloadable(program: str | Path) -> str | None:
    """Say why LD_PRELOAD would do nothing in a program (a file, or the name of one on the PATH); None: it works.

    A script is as its interpreter is. What cannot be read is left to whoever starts it.
    """
    return _reason(shutil.which(program) or str(program), MOST_INTERPRETERS)


def _reason(path: str, interpreters: int) -> str | None:
    try:
        head, status = _looked_at(path)
    except (OSError, ValueError):  # a name may be no name
        return None
    if head.startswith(b"#!"):
        interpreter = _interpreter(head) if interpreters else None
        found = interpreter and _reason(interpreter, interpreters - 1)
        return f"its interpreter {interpreter} {found.removeprefix('it ')}" if found else None
    if not head.startswith(MAGIC):
        return None
    return _of_format(path, head) or _of_rights(path, status)


def _looked_at(path: str) -> tuple[bytes, os.stat_result]:
    """Read the beginning of a file. Raises OSError; ValueError: it is none. A pipe's is not waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(path)
        return os.pread(fd, HEAD_BYTES, 0), status
    finally:
        os.close(fd)


def _interpreter(head: bytes) -> str | None:
    """Give the interpreter of a script; of one that `env` looks for, that."""
    words = head[2:LINE_BYTES].split(b"\n", 1)[0].split(b"\0", 1)[0].decode(errors="surrogateescape").split()
    if not words:
        return None
    if Path(words[0]).name != "env":
        return words[0]
    looked_for = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
    return looked_for and shutil.which(looked_for)


def _of_format(path: str, head: bytes) -> str | None:
    if len(head) < HEADER.size:
        return None
    _, width, order, _, machine, _, _, first, _, _, _, size, count = HEADER.unpack_from(head)
    if width != CLASS_64 or order != LITTLE_ENDIAN or machine != MACHINES.get(platform.machine(), machine):
        return "it is built for another processor, or for 32 bits"
    loader = _loader(head, first, size, min(count, MOST_HEADERS))
    if loader is None:
        return None if Path(path).name.startswith("ld-linux") else "it is static: it loads no library"
    if Path(loader).name.startswith("ld-musl"):
        return "it is linked with musl, for which the library is not made"
    return None


def _loader(head: bytes, first: int, size: int, count: int) -> str | None:
    """Give what loads a program's libraries; None where it has none."""
    for index in range(count):
        at = first + index * size
        if at + PROGRAM_HEADER.size > len(head):
            break
        kind, _, offset, _, _, length, *_ = PROGRAM_HEADER.unpack_from(head, at)
        if kind == PT_INTERP:
            return head[offset : offset + length].split(b"\0", 1)[0].decode(errors="surrogateescape")
    return None


def _of_rights(path: str, status: os.stat_result) -> str | None:
    """Who gets rights by a program gets no libraries of others into it."""
    with suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        return "it is setuid: it takes no library from others"
    if status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP and status.st_gid != os.getegid():
        return "it is setgid: it takes no library from others"
    if os.geteuid():
        with suppress(OSError):
            os.getxattr(path, "security.capability")
            return "it has capabilities: it takes no library from others"
    return None
