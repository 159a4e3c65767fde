"""A physical memory of 64-bit words: pages that exist or not, read-only pages, and a log of what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096


class Memory:
    """Words by physical address. A page that was never added is a hole; a word never written reads zero."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.pages: dict[int, bool] = {}
        self.stores: list[tuple[int, int, int]] = []

    def add_pages(self, start: int, count: int, *, writable: bool = True) -> None:
        """Make ``count`` pages of 4 KiB from ``start`` exist."""
        for page in range(start, start + count * PAGE, PAGE):
            self.pages[page] = writable

    def put(self, pa: int, value: int) -> None:
        """Write a word without logging it: how tables are built."""
        self.words[pa] = value

    def load(self, pa: int) -> int | None:
        """The word at ``pa``, or None in a hole."""
        value = self.words.get(pa)
        if value is None:
            return 0 if pa & -PAGE in self.pages else None
        return value

    def store(self, pa: int, value: int) -> bool:
        """Write a word, keeping a record of it; False where the page is read-only."""
        if not self.pages[pa & -PAGE]:
            return False
        self.stores.append((pa, self.words.get(pa, 0), value))
        self.words[pa] = value
        return True

    def undo(self) -> None:
        """Take back every store since the last `forget` or `undo`, the youngest first."""
        for pa, before, _ in reversed(self.stores):
            self.words[pa] = before
        self.stores.clear()

    def forget(self) -> None:
        """Keep the stores and drop their record."""
        self.stores.clear()

    def runs(self) -> Iterator[tuple[int, int, bool]]:
        """(start, bytes, writable) of each longest run of like pages, ascending."""
        start, end, writable = 0, 0, False
        for page, page_writable in sorted(self.pages.items()):
            if end != page or writable != page_writable or start == end:
                if start != end:
                    yield start, end - start, writable
                start, writable = page, page_writable
            end = page + PAGE
        if start != end:
            yield start, end - start, writable
