"""Files that programs hold, and when they are released."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from attrs import define

from viommu.service.files import Files, Readable

if TYPE_CHECKING:
    from collections.abc import Iterator


@define(eq=False)
class Plain:
    """A file that counts how often it was released."""

    releases: int = 0

    def release(self) -> None:
        self.releases += 1


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.close()


def test_a_file_is_released_once_when_its_last_descriptor_is_closed(files: Files) -> None:
    file = Plain()
    served, theirs = files.add(file)  # type: ignore[arg-type]  # it has what is used of a file
    files.watch(served)
    copy = os.dup(theirs)
    os.close(theirs)
    files.reap()
    assert file.releases == 0
    os.close(copy)
    files.reap()
    files.reap()
    assert file.releases == 1
    assert files.find(served.number) is None


def test_a_file_that_its_program_never_got_is_the_callers_to_drop(files: Files) -> None:
    """A kernel closes a descriptor that comes in a message where the program may have no more."""
    file = Plain()
    served, theirs = files.add(file)  # type: ignore[arg-type]  # it has what is used of a file
    os.close(theirs)
    files.reap()
    assert file.releases == 0
    files.drop(served)
    assert files.find(served.number) is None


def test_a_byte_that_did_not_go_in_is_not_to_be_taken_out() -> None:
    theirs, ours = os.pipe2(os.O_NONBLOCK)
    os.close(theirs)
    readable = Readable(ours=ours)
    readable.set(ready=True)
    readable.set(ready=False)
    assert readable.take_surplus() == 0
    os.close(ours)


def test_what_is_signalled_after_the_end_is_closed_reaches_nobody_else(files: Files) -> None:
    """Between the last close and the release of a file its object may signal: its end's number may be another's."""
    served, theirs = files.add(Plain())  # type: ignore[arg-type]  # it has what is used of a file
    read, other = os.pipe2(os.O_NONBLOCK)
    files.drop(served)
    os.dup2(other, served.ours)
    served.readable.set(ready=False)
    served.readable.set(ready=True)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    for end in (theirs, read, other, served.ours):
        os.close(end)
