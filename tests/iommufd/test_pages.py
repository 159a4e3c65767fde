from __future__ import annotations

import pytest

from viommu.iommufd.user_memory import Account, User, UserPage
from viommu.kernel_errors import BadAddress, NoMemory
from viommu.objects.context import Accounting
from viommu.objects.pages import UserPages, move_all
from viommu.oracle.processes import World

PAGE = 4096
BUFFER = 0x7F00_0000_0000


def pages(count: int = 8, accounting: Accounting | None = None) -> UserPages:
    process = World().process(0)
    process.everything_mapped = True
    process.account = Account()
    return UserPages(process, count, writable=True, accounting=accounting, user_address=BUFFER)


def pins(storage: UserPages) -> list[int]:
    found = []
    for index in range(storage.count):
        page: UserPage = storage.source.page(BUFFER + index * PAGE)  # type: ignore[attr-defined]
        found.append(page.pin_count)
    return found


def test_a_page_is_pinned_once_however_many_want_it() -> None:
    storage = pages(4)
    storage.hold(0, 2)
    storage.hold(1, 3)
    assert pins(storage) == [1, 1, 1, 1]
    storage.let_go(0, 2)
    assert pins(storage) == [0, 1, 1, 1]
    storage.let_go(1, 3)
    assert pins(storage) == [0, 0, 0, 0]


def test_the_pages_of_a_range_come_in_order() -> None:
    storage = pages(8)
    storage.hold(5, 7)
    storage.hold(0, 1)
    storage.hold(0, 7)
    found = [extent.frame + index for extent in storage.extents(1, 6) for index in range(extent.count)]
    wanted = [storage.source.page(BUFFER + index * PAGE).frame for index in range(1, 7)]  # type: ignore[attr-defined]
    assert found == wanted


def test_pages_that_cannot_all_be_pinned_are_not_pinned_at_all() -> None:
    storage = pages(4)
    storage.source.unmapped_pages.add(BUFFER // PAGE + 3)  # type: ignore[attr-defined]
    with pytest.raises(BadAddress):
        storage.hold(0, 3)
    storage.hold(0, 2)
    with pytest.raises(BadAddress):
        storage.hold(1, 3)
    storage.let_go(0, 2)
    storage.source.unmapped_pages.clear()  # type: ignore[attr-defined]
    assert pins(storage) == [0, 0, 0, 0]


@pytest.mark.parametrize("accounting", [Accounting.USER, Accounting.MM])
def test_pinned_pages_count_against_the_limit(accounting: Accounting) -> None:
    storage = pages(4, accounting)
    account = storage.source.account
    account.limit = 3
    with pytest.raises(NoMemory):
        storage.hold(0, 3)
    assert pins(storage) == [0, 0, 0, 0]
    storage.hold(0, 2)
    assert (account.user.locked, account.locked, account.pinned) == (
        (3, 0, 3) if accounting is Accounting.USER else (0, 3, 3)
    )
    storage.let_go(0, 2)
    assert (account.user, account.locked, account.pinned) == (account.user, 0, 0)
    assert account.user.locked == 0


def test_without_a_limit_pinned_pages_are_counted_all_the_same() -> None:
    storage = pages(4)
    storage.hold(0, 3)
    assert storage.source.account.pinned == 4
    assert storage.source.account.user.locked == 0


def test_pages_move_to_another_process_with_their_count() -> None:
    storage = pages(4, Accounting.USER)
    first, second = storage.source, World().process(0)
    second.account = Account(User())
    storage.hold(0, 3)
    move_all([storage], second)
    assert (first.account.pinned, first.account.user.locked) == (0, 0)
    assert (second.account.pinned, second.account.user.locked) == (4, 4)


def test_a_process_that_may_not_lock_so_much_gets_nothing() -> None:
    small, large = pages(1, Accounting.USER), pages(4, Accounting.USER)
    for storage in (small, large):
        storage.hold(0, storage.count - 1)
    other = World().process(0)
    other.account = Account(limit=4)
    with pytest.raises(NoMemory):
        move_all([small, large], other)
    assert (other.account.pinned, other.account.user.locked) == (0, 0)
    assert [storage.source.account.pinned for storage in (small, large)] == [1, 4]


def test_pinned_pages_are_read_and_written_across_their_ends() -> None:
    storage = pages(3)
    storage.hold(0, 2)
    storage.write(PAGE - 2, b"abcd")
    assert storage.read(PAGE - 3, 6) == b"\0abcd\0"
